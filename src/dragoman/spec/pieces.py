"""A front end that encodes pieces of a spectrogram apart from each other."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.spec.checks import check_sizes

_CONVS = 3


@dataclass(frozen=True, kw_only=True)
class PieceFrontendSpec:
    """Three convolutions over bins and frames, each of which halves both, then a projection (Qwen3-ASR)."""

    num_mels: int
    """Mel bins of the spectrogram."""
    channels: int
    """Channels of the convolutions."""
    piece: int
    """Frames of the spectrogram in a piece; the last one is completed with zeros."""

    input_name: ClassVar[str] = "input_features"
    axes: ClassVar[tuple[str, ...]] = ("batch", "mels", "frames")
    time_axis: ClassVar[int] = 2
    masked: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sizes = {"num_mel_bins": self.num_mels, "downsample_hidden_size": self.channels, "n_window": self.piece}
        check_sizes("The front end of pieces", sizes)

    def input_shape(self, batch: int, frames: int) -> tuple[int, ...]:
        return batch, self.num_mels, frames

    def starts(self, states: Any) -> Any:
        """Return at which frames of the spectrogram states begin, an int or an integer array; a piece begins anew."""
        return states // self.states * self.piece + states % self.states * self.hop

    @property
    def bins(self) -> int:
        """Bins after the convolutions."""
        return int(_halved(self.num_mels))

    @property
    def states(self) -> int:
        """Frames that a whole piece becomes."""
        return int(_halved(self.piece))

    @property
    def hop(self) -> int:
        """Frames of the spectrogram from one frame to the next, rounded up: 13 come of 100."""
        return -(-self.piece // self.states)

    @property
    def receptive_field(self) -> int:
        """The shortest input."""
        return 1

    def frame_lengths(self, mel_frames: Any) -> Any:
        """Return the number of frames of `mel_frames` frames of input, an int or an integer array of any framework."""
        return mel_frames // self.piece * self.states + _halved(mel_frames % self.piece)


def _halved(count: Any) -> Any:
    for _ in range(_CONVS):
        count = (count - 1) // 2 + 1
    return count
