"""What turns the input of a speech encoder into frames: four kinds of front end.

Each says what it takes: `input_name` is Hugging Face's name of the input and `axes` are its axes, of which `time_axis`
may be padded. Where it is not `masked`, padding is part of what the model was trained on, so that every frame counts
and SpecAugment hides the input itself.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from dragoman.errors import ConfigError
from dragoman.spec.checks import MOST_LAYERS, check_numbers, check_sizes
from dragoman.spec.enums import Activation, FrontendNorm

__all__ = [
    "ConvFrontendSpec",
    "FeatureFrontendSpec",
    "FrontendSpec",
    "MelFrontendSpec",
    "SubsampleFrontendSpec",
    "fits",
    "shape_in_words",
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
    project: bool = True

    input_name: ClassVar[str] = "input_values"
    axes: ClassVar[tuple[str, ...]] = ("batch", "samples")
    time_axis: ClassVar[int] = 1
    masked: ClassVar[bool] = True

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

    def input_shape(self, batch: int, samples: int) -> tuple[int, ...]:
        """Return the shape of an input batch."""
        return batch, samples

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

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "mels", "frames")
    time_axis: ClassVar[int] = 2
    masked: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the size."""
        check_sizes("The log-mel front end", {"num_mels": self.num_mels})

    def input_shape(self, batch: int, mel_frames: int) -> tuple[int, ...]:
        """Return the shape of an input batch."""
        return batch, self.num_mels, mel_frames

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
class FeatureFrontendSpec:
    """Frames of a filter bank, normalised and projected (wav2vec2-bert, https://arxiv.org/abs/2312.05187, 3.2.1)."""

    num_features: int
    norm_eps: float = 1e-5
    dropout: float = 0.0

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "frames", "features")
    time_axis: ClassVar[int] = 1
    masked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the values."""
        check_sizes("The front end", {"feature_projection_input_dim": self.num_features})
        check_numbers("The front end", {"dropout": self.dropout, "norm_eps": self.norm_eps})

    def input_shape(self, batch: int, frames: int) -> tuple[int, ...]:
        """Return the shape of an input batch."""
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
        """Return how many frames come from `frames`: as many."""
        return frames


@dataclass(frozen=True, kw_only=True)
class SubsampleFrontendSpec:
    """Gated convolutions over the frames of a filter bank, each of which halves the frame rate, then a scale.

    Reference: https://arxiv.org/abs/1911.08460, section 2.
    """

    num_features: int
    channels: int
    kernels: tuple[int, ...]
    scale: float

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "frames", "features")
    time_axis: ClassVar[int] = 1
    masked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = {f"conv_kernel_sizes[{i}]": size for i, size in enumerate(self.kernels)}
        sizes |= {"input_feat_per_channel": self.num_features, "conv_channels": self.channels}
        check_sizes("The convolutional front end", sizes)
        if any(kernel % 2 == 0 for kernel in self.kernels) or self.channels % 2 or not self.kernels:
            raise ConfigError(
                "`conv_kernel_sizes` must hold at least one odd number, odd numbers alone, and `conv_channels` must be "
                f"even, but they are {list(self.kernels)} and {self.channels}."
            )

    def input_shape(self, batch: int, frames: int) -> tuple[int, ...]:
        """Return the shape of an input batch."""
        return batch, frames, self.num_features

    @property
    def hop(self) -> int:
        """Input frames from one frame to the next."""
        return int(2 ** len(self.kernels))

    @property
    def receptive_field(self) -> int:
        """The shortest input: the convolutions pad, so one frame."""
        return 1

    def frame_lengths(self, frames: Any) -> Any:
        """Return how many frames come from `frames`: an int or an integer array of any framework."""
        for _ in self.kernels:
            frames = (frames - 1) // 2 + 1
        return frames


FrontendSpec = ConvFrontendSpec | MelFrontendSpec | FeatureFrontendSpec | SubsampleFrontendSpec


def fits(front: FrontendSpec, shape: tuple[int, ...]) -> bool:
    """Return whether a front end takes inputs of this shape."""
    return len(shape) == len(front.axes) and shape == front.input_shape(shape[0], shape[front.time_axis])


def shape_in_words(front: FrontendSpec) -> str:
    """Return the shape that an input must have: `[batch, 80 mels, frames]`."""
    free = -1
    sizes = zip(front.axes, front.input_shape(free, free), strict=True)
    return f"[{', '.join(name if size == free else f'{size} {name}' for name, size in sizes)}]"
