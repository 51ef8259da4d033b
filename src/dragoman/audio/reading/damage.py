"""What happens where a recording is damaged or truncated: an error, or a count of what was lost."""

import warnings
from dataclasses import dataclass, field

from dragoman.audio.reading.source import AudioFile
from dragoman.errors import AudioError


def truncated(audio: AudioFile, what: str) -> AudioError:
    """Return the error for a file that ends too early."""
    return AudioError(
        f"{audio.name}: is truncated: {what}. Copy it again from its source; to use the rest, set `on_damage` to "
        "'skip', or convert it with `ffmpeg -i INPUT output.wav`."
    )


def damaged(audio: AudioFile, seconds: float, cause: object) -> AudioError:
    """Return the error for a file that cannot be decoded after `seconds`."""
    return AudioError(
        f"{audio.name}: is damaged or truncated: decoding failed after {seconds:.2f} s ({cause}). Copy it again from "
        "its source; to use the rest, set `on_damage` to 'skip', or try `ffmpeg -i INPUT output.wav`."
    )


@dataclass
class Damage:
    """The damage of one recording.

    Attributes:
        skip: Whether to read on after it, as far as possible.
        lost: Seconds lost.
        present: Share of the bytes of a truncated file that are there.
        faults: What was found, one message each.
    """

    skip: bool = False
    lost: float = 0.0
    present: float = 1.0
    faults: list[str] = field(default_factory=list)

    def report(self, error: AudioError) -> None:
        """Raise `error`, or note it if damage is skipped."""
        if not self.skip:
            raise error
        self.faults.append(str(error))

    def warn(self, name: str, seconds: float) -> None:
        """Warn at the end of a recording, after `seconds` of audio, if something was lost."""
        if not self.faults:
            return
        lost = self.lost + seconds * (1 / self.present - 1)
        first = self.faults[0].removeprefix(f"{name}: ").partition(". ")[0]
        more = f" ({len(self.faults)} faults in all)" if len(self.faults) > 1 else ""
        amount = f"{lost:.2f} s" if lost else "an unknown part"
        warnings.warn(f"{name}: {amount} of it could not be read: it {first}{more}.", UserWarning, stacklevel=2)
