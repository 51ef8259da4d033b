"""What a speech encoder is made of: front end, positions, stack, adapter."""

from dataclasses import dataclass
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec.block import BlockSpec, StackSpec
from dragoman.spec.checks import MOST_LAYERS, check_numbers, check_sizes
from dragoman.spec.frontend import FrontendSpec
from dragoman.spec.positions import (
    BucketBiasSpec,
    ConvPositionSpec,
    ConvStackPositionSpec,
    PositionSpec,
    SinusoidPositionSpec,
    TablePositionSpec,
)

__all__ = ["ConvAdapterSpec", "SpecAugmentSpec", "SpeechEncoderSpec"]


@dataclass(frozen=True, kw_only=True)
class ConvAdapterSpec:
    """Strided gated convolutions behind the stack, which shorten the memory (XLS-R, https://arxiv.org/abs/2111.09296).

    With a `block` each layer shortens twice, what is looked at and what is added to it, and attention and a
    feed-forward network of this kind follow; `first_ffn` describes a feed-forward network before all layers
    (wav2vec2-bert).
    """

    num_layers: int
    kernel: int
    stride: int
    width: int
    padding: int = 1  # upstream pads by one frame whatever the kernel
    block: BlockSpec | None = None
    first_ffn: BlockSpec | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The convolutional adapter", {"kernel": self.kernel, "stride": self.stride, "width": self.width})
        check_sizes("The convolutional adapter", {"num_layers": self.num_layers}, at_least=0, at_most=MOST_LAYERS)
        check_numbers("The convolutional adapter", {"dropout": self.dropout})

    @property
    def shortest_input(self) -> int:
        """The fewest frames of which one is left."""
        frames = 1
        for _ in range(self.num_layers):
            frames = max((frames - 1) * self.stride + self.kernel - 2 * self.padding, 1)
        return frames

    def frame_lengths(self, frames: Any) -> Any:
        """Return how many frames are left of `frames`: an int or an integer array of any framework."""
        for _ in range(self.num_layers):
            frames = self.shortened(frames)
        return frames

    def shortened(self, frames: Any) -> Any:
        """Return how many frames one layer leaves."""
        return (frames + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class SpecAugmentSpec:
    """Spans of frames and of channels to hide in training (SpecAugment, https://arxiv.org/abs/1904.08779)."""

    time_prob: float = 0.0
    time_length: int = 10
    time_min_masks: int = 0
    feature_prob: float = 0.0
    feature_length: int = 10
    feature_min_masks: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_numbers("SpecAugment", {"time_prob": self.time_prob, "feature_prob": self.feature_prob})
        if self.time_prob:
            check_sizes("SpecAugment", {"time_length": self.time_length})
        if self.feature_prob:
            check_sizes("SpecAugment", {"feature_length": self.feature_length})
        least = {"time_min_masks": self.time_min_masks, "feature_min_masks": self.feature_min_masks}
        check_sizes("SpecAugment", least, at_least=0)

    @property
    def mask_embedding(self) -> bool:
        """Whether the model has a learned vector for hidden frames."""
        return self.time_prob > 0 or self.feature_prob > 0


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderSpec:
    """A speech encoder: `frontend` → (`positions`) → `stack` → (`adapter`).

    Where positions have a stride, the stack sees the average of so many frames at once and its states are spread over
    them again afterwards.

    `input_norm` normalises what enters the stack (post-norm models), `stack.final_norm` what leaves it (pre-norm ones).
    """

    frontend: FrontendSpec
    positions: PositionSpec | None
    stack: StackSpec
    input_norm: bool
    dropout: float = 0.0
    position_bias: BucketBiasSpec | None = None
    adapter: ConvAdapterSpec | None = None
    spec_augment: SpecAugmentSpec | None = None
    mask_embedding: bool = False
    init_std: float = 0.02

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
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
        """Width of what really flows out: the adapter's where there is one."""
        return self.adapter.width if self.adapter else self.width

    @property
    def input_name(self) -> str:
        """Hugging Face's name of the input: `input_values` for samples, `input_features` for spectrograms."""
        return self.frontend.input_name

    @property
    def squeeze(self) -> int:
        """How many frames of the front end are one of the stack."""
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

    def frame_lengths(self, inputs: Any) -> Any:
        """Return how many frames of memory come from inputs of these lengths (an int or an integer array)."""
        frames = self.frontend.frame_lengths(inputs)
        return self.adapter.frame_lengths(frames) if self.adapter else frames
