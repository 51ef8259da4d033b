"""What a speech encoder is made of: front end, positions, stack, adapter."""

from dataclasses import dataclass
from math import prod
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec.block import MOST_LAYERS, StackSpec, check_numbers, check_sizes
from dragoman.spec.enums import Activation, FrontendNorm

__all__ = [
    "BucketBiasSpec",
    "ConvAdapterSpec",
    "ConvFrontendSpec",
    "ConvPositionSpec",
    "ConvStackPositionSpec",
    "MelFrontendSpec",
    "SpecAugmentSpec",
    "SpeechEncoderSpec",
    "TablePositionSpec",
]


@dataclass(frozen=True, kw_only=True)
class ConvFrontendSpec:
    """Strided convolutions from raw samples to feature frames, then normalise and project (wav2vec 2.0, section 2)."""

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    bias: bool
    norm: FrontendNorm
    activation: Activation
    feature_norm: bool = True
    norm_eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check that every convolution has its three numbers."""
        counts = len(self.channels), len(self.strides), len(self.kernels)
        if len(set(counts)) != 1 or not 1 <= counts[0] <= MOST_LAYERS:
            raise ConfigError(
                "`conv_dim`, `conv_stride` and `conv_kernel` must have one number for each convolution, "
                f"but have {counts[0]}, {counts[1]} and {counts[2]}."
            )
        for name, sizes in ("conv_dim", self.channels), ("conv_stride", self.strides), ("conv_kernel", self.kernels):
            check_sizes("The convolutional front end", {f"{name}[{i}]": size for i, size in enumerate(sizes)})
        check_numbers("The convolutional front end", {"dropout": self.dropout, "norm_eps": self.norm_eps})

    @property
    def hop(self) -> int:
        """Samples from one frame to the next (320, which is 20 ms, for wav2vec 2.0)."""
        return prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees (400, which is 25 ms, for wav2vec 2.0): the shortest clip that can be encoded."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frame_lengths(self, samples: Any) -> Any:
        """Return how many frames come from `samples`: an int or an integer array of any framework."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


@dataclass(frozen=True, kw_only=True)
class MelFrontendSpec:
    """Two convolutions over a log-mel spectrogram; the second halves the frame rate (Whisper, section 2.2)."""

    num_mels: int
    activation: Activation = Activation.GELU

    def __post_init__(self) -> None:
        """Check the size."""
        check_sizes("The log-mel front end", {"num_mels": self.num_mels})

    @property
    def hop(self) -> int:
        """Spectrogram frames from one frame to the next."""
        return 2

    @property
    def receptive_field(self) -> int:
        """The shortest input: the convolutions pad, so one spectrogram frame."""
        return 1

    def frame_lengths(self, mel_frames: Any) -> Any:
        """Return how many frames come from `mel_frames`: an int or an integer array of any framework."""
        return (mel_frames - 1) // 2 + 1


@dataclass(frozen=True, kw_only=True)
class ConvPositionSpec:
    """Positions from a wide grouped convolution over the frames, added to them (wav2vec 2.0, section 2).

    The weight is normalised per kernel position unless `batch_norm` normalises the input instead (HuBERT's option).
    """

    kernel: int
    groups: int
    activation: Activation
    batch_norm: bool = False

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The position convolution", {"kernel": self.kernel, "groups": self.groups})


@dataclass(frozen=True, kw_only=True)
class ConvStackPositionSpec:
    """Positions from several grouped convolutions, each normalised without weights (data2vec, section 3.1)."""

    num_layers: int
    kernel: int
    groups: int
    activation: Activation

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The position convolutions", {"kernel": self.kernel, "groups": self.groups})
        check_sizes("The position convolutions", {"num_layers": self.num_layers}, at_most=MOST_LAYERS)


@dataclass(frozen=True, kw_only=True)
class TablePositionSpec:
    """One stored vector a frame, added to it; no more than `num_positions` frames fit."""

    num_positions: int

    def __post_init__(self) -> None:
        """Check the size."""
        check_sizes("The position table", {"num_positions": self.num_positions})


@dataclass(frozen=True, kw_only=True)
class BucketBiasSpec:
    """A learned number for each distance between frames, distances in buckets (WavLM, section 3.1)."""

    num_buckets: int
    max_distance: int

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The position bias", {"num_buckets": self.num_buckets, "max_bucket_distance": self.max_distance}, 4)
        if self.max_distance <= self.num_buckets // 4:
            raise ConfigError(
                f"`max_bucket_distance` must be more than a quarter of `num_buckets` ({self.num_buckets}), but is "
                f"{self.max_distance}."
            )


@dataclass(frozen=True, kw_only=True)
class ConvAdapterSpec:
    """Strided gated convolutions behind the stack, which shorten the memory (XLS-R, https://arxiv.org/abs/2111.09296)."""

    num_layers: int
    kernel: int
    stride: int
    width: int
    padding: int = 1  # upstream pads by one frame whatever the kernel

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The convolutional adapter", {"kernel": self.kernel, "stride": self.stride, "width": self.width})
        check_sizes("The convolutional adapter", {"num_layers": self.num_layers}, at_least=0, at_most=MOST_LAYERS)

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
            frames = (frames + 2 * self.padding - self.kernel) // self.stride + 1
        return frames


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

    `input_norm` normalises what enters the stack (post-norm models), `stack.final_norm` what leaves it (pre-norm ones).
    """

    frontend: ConvFrontendSpec | MelFrontendSpec
    positions: ConvPositionSpec | ConvStackPositionSpec | TablePositionSpec
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
        if isinstance(self.positions, TablePositionSpec) and (self.width % 2 or self.width < 4):
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
        return "input_values" if isinstance(self.frontend, ConvFrontendSpec) else "input_features"

    @property
    def shortest_input(self) -> int:
        """The shortest input, in samples or spectrogram frames, that gives one frame of memory."""
        frames = self.adapter.shortest_input if self.adapter else 1
        return self.frontend.receptive_field + (frames - 1) * self.frontend.hop

    def frame_lengths(self, inputs: Any) -> Any:
        """Return how many frames of memory come from inputs of these lengths (an int or an integer array)."""
        frames = self.frontend.frame_lengths(inputs)
        return self.adapter.frame_lengths(frames) if self.adapter else frames
