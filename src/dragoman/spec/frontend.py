"""The four kinds of front end, which turn the input of a speech encoder into frames.

Each states its input: its name (`input_values` or `input_features`), its axes, and which of them is time and may be
padded. Where it is not `masked`, padding is part of the training data: every frame counts, and SpecAugment masks the
input itself.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from dragoman.errors import ConfigError
from dragoman.spec.checks import MOST_LAYERS, check_numbers, check_sizes
from dragoman.spec.enums import Activation, FrontendNorm
from dragoman.spec.pieces import PieceFrontendSpec


@dataclass(frozen=True, kw_only=True)
class ConvFrontendSpec:
    """Strided convolutions over raw samples, then a norm and a projection to the stack (wav2vec 2.0, section 2)."""

    channels: tuple[int, ...]
    """Output channels of each convolution."""
    kernels: tuple[int, ...]
    """Kernel of each convolution, in samples or frames of its input."""
    strides: tuple[int, ...]
    """Stride of each convolution."""
    bias: bool
    """Whether the convolutions have biases."""
    norm: FrontendNorm
    """How the convolutions' outputs are normalised."""
    activation: Activation
    """Non-linearity after each convolution."""
    first_activation: Activation | None = None
    """Non-linearity after the first convolution where it is another, in which case that convolution has no bias."""
    feature_norm: bool = True
    """Whether the features are normalised before the projection."""
    norm_eps: float = 1e-5
    """Epsilon of that norm."""
    dropout: float = 0.0
    """Probability that a value of the output is dropped in training."""
    project: bool = True
    """Whether the features are projected to the width of the stack."""

    input_name: ClassVar[str] = "input_values"
    axes: ClassVar[tuple[str, ...]] = ("batch", "samples")
    time_axis: ClassVar[int] = 1
    masked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        counts = len(self.channels), len(self.strides), len(self.kernels)
        if len(set(counts)) != 1 or not 1 <= counts[0] <= MOST_LAYERS:
            raise ConfigError(
                "`conv_dim`, `conv_stride` and `conv_kernel` must have one number for each convolution, "
                f"but have {counts[0]}, {counts[1]} and {counts[2]}."
            )
        for name, sizes in ("conv_dim", self.channels), ("conv_stride", self.strides), ("conv_kernel", self.kernels):
            check_sizes("The convolutional front end", {f"{name}[{i}]": size for i, size in enumerate(sizes)})
        check_numbers("The convolutional front end", {"dropout": self.dropout, "norm_eps": self.norm_eps})

    def input_shape(self, batch: int, samples: int) -> tuple[int, ...]:
        return batch, samples

    @property
    def hop(self) -> int:
        """Samples from one frame to the next (320, which is 20 ms, in wav2vec 2.0)."""
        return prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame covers (400, which is 25 ms, in wav2vec 2.0): the shortest clip it encodes."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frame_lengths(self, samples: Any) -> Any:
        """Return the number of frames of `samples` samples, an int or an integer array of any framework."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


@dataclass(frozen=True, kw_only=True)
class MelFrontendSpec:
    """Two convolutions over a log-mel spectrogram; the second halves the frame rate (Whisper, section 2.2)."""

    num_mels: int
    """Mel bins of the spectrogram."""
    activation: Activation = Activation.GELU
    """Non-linearity after each convolution."""
    masked: bool = False
    """Whether inputs have lengths; otherwise padding is part of them (Whisper)."""
    window: int | None = None
    """Frames of the spectrogram that are encoded apart from others, where an input may be longer (GLM-ASR)."""

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "mels", "frames")
    time_axis: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_sizes("The log-mel front end", {"num_mels": self.num_mels})

    def input_shape(self, batch: int, mel_frames: int) -> tuple[int, ...]:
        return batch, self.num_mels, mel_frames

    @property
    def hop(self) -> int:
        """Frames of the spectrogram from one frame to the next."""
        return 2

    @property
    def receptive_field(self) -> int:
        """The shortest input: one frame of the spectrogram, since the convolutions pad."""
        return 1

    def frame_lengths(self, mel_frames: Any) -> Any:
        """Return the number of frames of `mel_frames` frames of input, an int or an integer array of any framework."""
        return (mel_frames - 1) // 2 + 1


@dataclass(frozen=True, kw_only=True)
class FeatureFrontendSpec:
    """Filter-bank frames, normalised and projected (wav2vec2-bert, https://arxiv.org/abs/2312.05187, 3.2.1)."""

    num_features: int
    """Features of a frame."""
    norm_eps: float = 1e-5
    """Epsilon of the norm."""
    dropout: float = 0.0
    """Probability that a value of the output is dropped in training."""

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "frames", "features")
    time_axis: ClassVar[int] = 1
    masked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes("The front end", {"feature_projection_input_dim": self.num_features})
        check_numbers("The front end", {"dropout": self.dropout, "norm_eps": self.norm_eps})

    def input_shape(self, batch: int, frames: int) -> tuple[int, ...]:
        return batch, frames, self.num_features

    @property
    def hop(self) -> int:
        """Input frames from one frame to the next."""
        return 1

    @property
    def receptive_field(self) -> int:
        """The shortest input."""
        return 1

    def frame_lengths(self, frames: Any) -> Any:
        """Return `frames`."""
        return frames


@dataclass(frozen=True, kw_only=True)
class SubsampleFrontendSpec:
    """Convolutions over filter-bank frames, each halving the frame rate (https://arxiv.org/abs/1911.08460, 2)."""

    num_features: int
    """Features of a frame."""
    channels: int
    """Channels of the convolutions, before their gates."""
    kernels: tuple[int, ...]
    """Kernel of each convolution."""
    scale: float
    """Factor of the output."""
    planar: bool = False
    """Whether they halve the bins too, without gates, and a projection follows (https://arxiv.org/abs/2305.05084, 2.1);
    otherwise they are gated and convolve the frames alone."""

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "frames", "features")
    time_axis: ClassVar[int] = 1
    masked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sizes = {f"conv_kernel_sizes[{i}]": size for i, size in enumerate(self.kernels)}
        sizes |= {"input_feat_per_channel": self.num_features, "conv_channels": self.channels}
        check_sizes("The convolutional front end", sizes)
        if any(kernel % 2 == 0 for kernel in self.kernels) or self.channels % 2 or not self.kernels:
            raise ConfigError(
                "`conv_kernel_sizes` must hold at least one odd number, odd numbers alone, and `conv_channels` must be "
                f"even, but they are {list(self.kernels)} and {self.channels}."
            )
        if self.planar and self.num_features % self.hop:
            raise ConfigError(f"The features of a frame must be a multiple of {self.hop}, but are {self.num_features}.")

    def input_shape(self, batch: int, frames: int) -> tuple[int, ...]:
        return batch, frames, self.num_features

    @property
    def hop(self) -> int:
        """Input frames from one frame to the next."""
        return int(2 ** len(self.kernels))

    @property
    def receptive_field(self) -> int:
        """The shortest input: one frame, since the convolutions pad."""
        return 1

    def frame_lengths(self, frames: Any) -> Any:
        """Return the number of frames of `frames` frames of input, an int or an integer array of any framework."""
        for _ in self.kernels:
            frames = (frames - 1) // 2 + 1
        return frames


FrontendSpec = ConvFrontendSpec | MelFrontendSpec | FeatureFrontendSpec | SubsampleFrontendSpec | PieceFrontendSpec


def fits(front: FrontendSpec, shape: tuple[int, ...]) -> bool:
    """Return whether a front end takes inputs of this shape."""
    return len(shape) == len(front.axes) and shape == front.input_shape(shape[0], shape[front.time_axis])


def shape_in_words(front: FrontendSpec) -> str:
    """Return the shape that an input must have, such as "[batch, 80 mels, frames]"."""
    free = -1
    sizes = zip(front.axes, front.input_shape(free, free), strict=True)
    return f"[{', '.join(name if size == free else f'{size} {name}' for name, size in sizes)}]"
