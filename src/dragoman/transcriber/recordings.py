"""From what the user names to a list of recordings: folders searched, files checked, outputs named."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dragoman.audio.reading.containers import container_name, container_of
from dragoman.audio.reading.mpeg import stated_seconds
from dragoman.audio.reading.source import AudioSource, open_audio
from dragoman.errors import AudioError, ConfigError

STDIN = "-"

# What counts as audio in a folder. A file that the user names may be called anything.
AUDIO_EXTENSIONS = frozenset({
    ".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga", ".aif", ".aiff", ".aifc",
    ".au", ".snd", ".caf", ".sph", ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".aac", ".webm", ".mkv", ".mka",
    ".wma", ".asf", ".amr", ".avi", ".g722", ".wmv", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".flv", ".f4v",
    ".wv", ".ac3", ".eac3", ".dts", ".ra", ".rm", ".rmvb", ".ogv", ".ogx", ".spx", ".mp2", ".tta", ".ape", ".mpc",
    ".voc", ".bw64", ".3g2", ".3gpp", ".m4r", ".qt",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording to transcribe.

    Attributes:
        path: The file; `None` for standard input.
        stem: Path of its outputs below the output folder, without their endings.
    """

    path: Path | None
    stem: Path

    @property
    def label(self) -> str:
        """Its name in messages."""
        return STDIN if self.path is None else str(self.path)

    def source(self) -> AudioSource:
        """Return the argument of `load_audio`."""
        return sys.stdin.buffer if self.path is None else self.path

    def seconds(self) -> float | None:
        """Return its length according to the file's header, for a progress bar: it may be missing or wrong."""
        import soundfile

        if self.path is None:
            return None
        try:
            with open_audio(self.path) as audio:
                # libsndfile's decoder of MP3 writes on standard error what it thinks of a file
                if container_name(audio) == "mp3":
                    return stated_seconds(audio)
            return float(soundfile.info(self.path).duration)
        except (AudioError, soundfile.SoundFileError, OSError, TypeError, ValueError):
            return None


def find_recordings(names: Sequence[str]) -> tuple[list[Recording], list[tuple[str, AudioError]]]:
    """Expand folders and set aside what cannot be opened, before a model is loaded for nothing.

    The outputs of a file are named after it; those of files in a folder keep their relative paths.

    Args:
        names: Files, folders, or `-` for standard input.

    Returns:
        The recordings, without repetitions; and the names that cannot be used, with the reason.
    """
    found: dict[str, Recording] = {}
    unusable: list[tuple[str, AudioError]] = []
    for name in names:
        try:
            expanded = _expanded(name)
        except AudioError as error:
            unusable.append((name, error))
            continue
        for item in expanded:
            if problem := _problem(item):
                unusable.append((item.label, problem))
            else:
                found.setdefault(os.path.abspath(item.label) if item.path else STDIN, item)
    return list(found.values()), unusable


def _expanded(name: str) -> list[Recording]:
    if name == STDIN:
        if sys.stdin is None:
            raise AudioError("-: standard input is closed. Send audio to it: dragoman transcribe - < speech.wav")
        if sys.stdin.isatty():
            raise AudioError("-: standard input is a terminal. Send audio to it: dragoman transcribe - < speech.wav")
        return [Recording(path=None, stem=Path("stdin"))]
    if not name.strip():
        raise ConfigError("AUDIO must be a file, a folder or -, but one is an empty string. Is a variable not set?")
    if name.startswith(("http://", "https://")):
        raise AudioError(f"{name}: is a URL, not a file. Send its content: curl -sL '{name}' | dragoman transcribe -")
    root = Path(name)
    return [
        Recording(path=file, stem=Path(file.stem) if file == root else file.relative_to(root).with_suffix(""))
        for file in find_audio_files([root])
    ]


def _problem(item: Recording) -> AudioError | None:
    """Return why a file cannot be opened, if so."""
    if item.path is not None:
        try:
            with open_audio(item.path):
                pass
        except AudioError as error:
            return error
    return None


def with_distinct_outputs(recordings: Sequence[Recording]) -> list[Recording]:
    """Give each recording outputs of its own.

    Those that differ only in their ending (`a.wav`, `a.mp3`) keep it (`a.wav.srt`). Those of one name in two folders
    have the name of their folder too (`monday/a.wav.srt`).

    Raises:
        ConfigError: If two recordings would still be written to the same file.
    """
    for longer in (_with_ending, _with_folder):
        counts = Counter(str(item.stem).casefold() for item in recordings)  # many file systems ignore case
        recordings = [
            replace(item, stem=longer(item.stem, item.path))
            if item.path and counts[str(item.stem).casefold()] > 1
            else item
            for item in recordings
        ]
    taken: dict[str, Recording] = {}
    for item in recordings:
        other = taken.setdefault(str(item.stem).casefold(), item)
        if other is not item:
            raise ConfigError(
                f"{other.label} and {item.label} would be written to the same file, {item.stem}. "
                "Transcribe them one after the other, each with its own --output_dir."
            )
    return list(recordings)


def _with_ending(stem: Path, path: Path) -> Path:
    return stem.with_name(path.name)


def _with_folder(stem: Path, path: Path) -> Path:
    return Path(path.absolute().parent.name) / stem.name if path.absolute().parent.name else stem


def find_audio_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Expand folders into the audio files in them, at any depth, sorted.

    A file is kept whatever its name: whether it can be read is decided when it is opened, so that one bad file does not
    stop the others. Hidden files and folders inside a folder are skipped, and so are links to folders.

    Raises:
        AudioError: If a folder cannot be listed or contains no audio.
    """
    found: dict[Path, None] = {}  # ordered, without repetitions
    for path in map(Path, paths):
        inside = _files_in(path) if os.path.isdir(path) else [path]
        if not inside:
            raise AudioError(f"{path}: no audio files in this folder. Looked for {' '.join(sorted(AUDIO_EXTENSIONS))}.")
        found.update(dict.fromkeys(inside))
    return list(found)


def _files_in(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise AudioError(
            f"{error.filename}: this folder cannot be listed: {error.strerror}. Check its permissions."
        ) from error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(parent, name) for name in names if not name.startswith(".") and _may_be_audio(Path(parent, name))
        ]
    return sorted(files)


def _may_be_audio(path: Path) -> bool:
    ending = path.suffix.lower()
    if ending != ".ts":
        return ending in AUDIO_EXTENSIONS
    try:  # MPEG transport streams share their ending with TypeScript
        with path.open("rb") as file:
            return container_of(file.read(1 << 10)) is not None
    except OSError:
        return True  # reported when it is opened
