"""A speech encoder: front end, positions, stack and adapter."""

from dataclasses import dataclass
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.checks import MOST_LAYERS, check_numbers, check_sizes
from dragoman.spec.enums import Padding
from dragoman.spec.frontend import FrontendSpec, SubsampleFrontendSpec
from dragoman.spec.pooling import PoolSpec
from dragoman.spec.positions import (
    BucketBiasSpec,
    ConvPositionSpec,
    ConvStackPositionSpec,
    PositionSpec,
    SinusoidPositionSpec,
    TablePositionSpec,
)


@dataclass(frozen=True, kw_only=True)
class ConvAdapterSpec:
    """Strided gated convolutions after the stack, which shorten the memory (XLS-R, https://arxiv.org/abs/2111.09296)."""

    num_layers: int
    """Number of layers; each shortens once."""
    kernel: int
    """Frames that a convolution covers."""
    stride: int
    """Factor by which a layer shortens."""
    width: int
    """Width of the output; a projection precedes where the stack's differs."""
    padding: int = 1  # `transformers` pads by one frame whatever the kernel
    """Zeros on either side of a convolution's input."""
    block: BlockSpec | None = None
    """With a block, each layer shortens the residual and the input of such a block's attention (wav2vec2-bert)."""
    first_ffn: FeedForwardSpec | None = None
    """A feed-forward network before all layers, half of whose output is added (wav2vec2-bert)."""
    dropout: float = 0.0
    """Probability that an output of the layers' attention is dropped in training."""

    def __post_init__(self) -> None:
        check_sizes("The convolutional adapter", {"kernel": self.kernel, "stride": self.stride, "width": self.width})
        check_sizes("The convolutional adapter", {"num_layers": self.num_layers}, at_least=0, at_most=MOST_LAYERS)
        check_numbers("The convolutional adapter", {"dropout": self.dropout})

    @property
    def shortest_input(self) -> int:
        """The fewest frames that leave one."""
        frames = 1
        for _ in range(self.num_layers):
            frames = max((frames - 1) * self.stride + self.kernel - 2 * self.padding, 1)
        return frames

    def frame_lengths(self, frames: Any) -> Any:
        """Return the number of frames left of `frames`, an int or an integer array of any framework."""
        for _ in range(self.num_layers):
            frames = self.shortened(frames)
        return frames

    def shortened(self, frames: Any) -> Any:
        """Return the number of frames that one layer leaves."""
        return (frames + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class SpecAugmentSpec:
    """Spans of frames and of channels to mask in training (SpecAugment, https://arxiv.org/abs/1904.08779)."""

    time_prob: float = 0.0
    """Share of the frames to mask."""
    time_length: int = 10
    """Frames of one span."""
    time_min_masks: int = 0
    """Least number of spans in a row."""
    feature_prob: float = 0.0
    """Share of the channels to mask."""
    feature_length: int = 10
    """Channels of one span."""
    feature_min_masks: int = 0
    """Least number of channel spans in a row."""

    def __post_init__(self) -> None:
        check_numbers("SpecAugment", {"time_prob": self.time_prob, "feature_prob": self.feature_prob})
        if self.time_prob:
            check_sizes("SpecAugment", {"time_length": self.time_length})
        if self.feature_prob:
            check_sizes("SpecAugment", {"feature_length": self.feature_length})
        least = {"time_min_masks": self.time_min_masks, "feature_min_masks": self.feature_min_masks}
        check_sizes("SpecAugment", least, at_least=0)

    @property
    def mask_embedding(self) -> bool:
        """Whether the model has a learned vector for masked frames."""
        return self.time_prob > 0 or self.feature_prob > 0


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderSpec:
    """A speech encoder: `frontend` → (`positions`) → `stack` → (`adapter`)."""

    frontend: FrontendSpec
    """From the input to frames."""
    positions: PositionSpec | None
    """Added to the frames; with a stride the stack runs on averages of frames, and its states are upsampled again."""
    stack: StackSpec
    """The blocks."""
    input_norm: bool
    """Whether the states are normalised before the stack (post-norm models)."""
    dropout: float = 0.0
    """Probability that a value that enters the stack is dropped in training."""
    position_bias: BucketBiasSpec | None = None
    """Learned bias of the attention scores of all layers, by distance (WavLM)."""
    adapter: ConvAdapterSpec | PoolSpec | None = None
    """Shortens the memory."""
    spec_augment: SpecAugmentSpec | None = None
    """Masks of training; `None` for none."""
    mask_embedding: bool = False
    """Whether there is a learned vector for masked frames; otherwise they are set to zero."""
    window: int | None = None
    """Frames that the stack attends to together; longer inputs are cut into such windows."""
    attends_padding: bool = False
    """Whether frames attend to padding, which is silence, although it is no part of the memory (GLM-ASR)."""
    init_std: float = 0.02
    """Standard deviation of fresh weights."""

    def __post_init__(self) -> None:
        check_numbers("The speech encoder", {"dropout": self.dropout})
        check_numbers("The speech encoder", {"init_std": self.init_std}, at_most=100.0)
        convolves = ConvPositionSpec | ConvStackPositionSpec
        if isinstance(self.positions, convolves) and self.width % self.positions.groups:
            raise ConfigError(
                "The width of the stack must be a multiple of the groups of its position convolution "
                f"(`num_conv_pos_embedding_groups`), but {self.width} is not a multiple of {self.positions.groups}."
            )
        stored = TablePositionSpec | SinusoidPositionSpec
        if isinstance(self.positions, stored) and (self.width % 2 or self.width < 4):
            raise ConfigError(f"A stack with a position table must have an even width of at least 4, not {self.width}.")

    @property
    def width(self) -> int:
        """Width of the stack."""
        return self.stack.block.width

    @property
    def output_width(self) -> int:
        """Width of the memory: the adapter's where there is one."""
        return self.adapter.width if self.adapter else self.width

    @property
    def input_name(self) -> str:
        """Name of the input: `input_values` for samples, `input_features` for spectrograms."""
        return self.frontend.input_name

    @property
    def squeeze(self) -> int:
        """Frames of the front end for one of the stack."""
        return self.positions.stride if isinstance(self.positions, ConvPositionSpec) else 1

    @property
    def shortest_input(self) -> int:
        """The shortest input, in samples or spectrogram frames, that gives one frame of memory."""
        frames = max(self.adapter.shortest_input if self.adapter else 1, self.squeeze)
        return self.frontend.receptive_field + (frames - 1) * self.frontend.hop

    @property
    def hop(self) -> int:
        """Inputs (samples or spectrogram frames) from one frame of memory to the next."""
        return self.frontend.hop * (self.adapter.stride**self.adapter.num_layers if self.adapter else 1)

    def exact(self, padding: Padding) -> bool:
        """Return whether padding changes no result; with planar convolutions it never does, in `transformers` too."""
        planar = isinstance(self.frontend, SubsampleFrontendSpec) and self.frontend.planar
        return planar or padding is Padding.EXACT

    def frame_lengths(self, inputs: Any) -> Any:
        """Return the memory frames of inputs of these lengths, an int or an integer array of any framework."""
        frames = self.frontend.frame_lengths(inputs)
        return self.adapter.frame_lengths(frames) if self.adapter else frames
