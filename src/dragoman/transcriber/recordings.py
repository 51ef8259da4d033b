"""From what the user named to a list of recordings, and the names of their outputs."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dragoman.audio.reading.io import find_audio_files
from dragoman.audio.reading.source import AudioSource, open_audio
from dragoman.errors import AudioError, ConfigError

__all__ = ["Input", "find_inputs", "told_apart"]

STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Input:
    """A recording to transcribe.

    Attributes:
        path: The file; `None` for standard input.
        stem: Where its outputs go below the output folder, without ending.
    """

    path: Path | None
    stem: Path

    @property
    def label(self) -> str:
        """What to call it."""
        return STDIN if self.path is None else str(self.path)

    def source(self) -> AudioSource:
        """Return what `dragoman.audio` can read."""
        return sys.stdin.buffer if self.path is None else self.path

    def seconds(self) -> float | None:
        """Return its length as far as a header tells, for a progress bar: it may be missing or wrong."""
        import soundfile

        try:
            return float(soundfile.info(self.path).duration) if self.path else None
        except (soundfile.SoundFileError, OSError, TypeError, ValueError):
            return None


def find_inputs(names: Sequence[str]) -> tuple[list[Input], list[tuple[str, AudioError]]]:
    """Expand folders and set aside what cannot be opened, before a model is loaded for nothing.

    The outputs of a file are named after it; those of files in a folder keep their place in it.

    Args:
        names: Files, folders, or `-` for standard input.

    Returns:
        The recordings, without repetitions, and what cannot be used with its reason.
    """
    found: dict[str, Input] = {}
    unusable: list[tuple[str, AudioError]] = []
    for name in names:
        try:
            expanded = _expanded(name)
        except AudioError as error:
            unusable.append((name, error))
            continue
        for item in expanded:
            if fault := _fault(item):
                unusable.append((item.label, fault))
            else:
                found.setdefault(os.path.abspath(item.label) if item.path else STDIN, item)
    return list(found.values()), unusable


def _expanded(name: str) -> list[Input]:
    if name == STDIN:
        if sys.stdin.isatty():
            raise AudioError("-: standard input is a terminal. Send audio to it: dragoman transcribe - < speech.wav")
        return [Input(path=None, stem=Path("stdin"))]
    root = Path(name)
    return [
        Input(path=file, stem=Path(file.stem) if file == root else file.relative_to(root).with_suffix(""))
        for file in find_audio_files([root])
    ]


def _fault(item: Input) -> AudioError | None:
    """Return why a file cannot be opened."""
    if item.path is not None:
        try:
            with open_audio(item.path):
                pass
        except AudioError as error:
            return error
    return None


def told_apart(inputs: Sequence[Input]) -> list[Input]:
    """Let recordings that differ in their ending only (`a.wav`, `a.mp3`) keep it in their outputs (`a.wav.srt`).

    Raises:
        ConfigError: If two recordings would still be written to one file.
    """
    counts = Counter(str(item.stem).casefold() for item in inputs)  # many file systems ignore case
    inputs = [
        replace(item, stem=item.stem.with_name(item.path.name))
        if item.path and counts[str(item.stem).casefold()] > 1
        else item
        for item in inputs
    ]
    taken: dict[str, Input] = {}
    for item in inputs:
        other = taken.setdefault(str(item.stem).casefold(), item)
        if other is not item:
            raise ConfigError(
                f"{other.label} and {item.label} would be written to the same file, {item.stem}. "
                "Transcribe them one after the other, each with an --output_dir of its own."
            )
    return inputs
