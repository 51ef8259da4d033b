"""Folders of audio with their texts in files: a `.txt` beside each recording, or LibriSpeech's `*.trans.txt`."""

import os
from collections.abc import Iterator
from pathlib import Path

from dragoman.data.formats.lines import Row, read_lines
from dragoman.data.formats.tables import table_kind
from dragoman.data.utterance import Problem
from dragoman.errors import DataError

_AUDIO = frozenset({
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".webm", ".aac", ".wma", ".aif", ".aiff", ".aifc",
    ".au", ".caf", ".w64", ".sph", ".mka", ".mkv",
})  # fmt: skip
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "manifest.jsonl", "manifest.json", "manifest.tsv")


def find_table(folder: Path, split: str | None) -> Path | None:
    """Return the table of a folder: that of a split, a `metadata.csv`, or the only one.

    Raises:
        DataError: If there are several and no split is named, or none is of the split.
    """
    tables = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and _is_table(path)}
    if split is not None:
        named = [path for name, path in tables.items() if name.partition(".")[0] == split]
        if not named and (folder / split).is_dir():
            return None
        if not named and tables:
            raise DataError(f"{folder}: has no split {split!r}. It has the tables {', '.join(tables)}.")
        return named[0] if named else None
    for name in _METADATA:
        if name in tables:
            return tables[name]
    if len(tables) > 1:
        raise DataError(f"{folder}: holds several tables: {', '.join(tables)}. Name one of them, or a `split`.")
    return next(iter(tables.values()), None)


def _is_table(path: Path) -> bool:
    return table_kind(path) is not None and not path.name.lower().endswith((".txt", ".txt.gz"))


def read_folder(folder: Path) -> tuple[str, Iterator[Row | Problem]]:
    """Return the kind of a folder of audio, and its items.

    Raises:
        DataError: If it holds no audio.
    """
    files = sorted(
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and not any(part.startswith(".") for part in Path(parent).relative_to(folder).parts)
    )
    transcripts = [path for path in files if path.name.endswith(".trans.txt")]
    if transcripts:
        return "librispeech", _librispeech(transcripts, files)
    recordings = [path for path in files if path.suffix.lower() in _AUDIO]
    if not recordings:
        raise DataError(
            f"{folder}: is no data set: it holds no audio, no table, no Kaldi files and no data set of `datasets`."
        )
    return "folder", _beside(folder, recordings)


def _beside(folder: Path, recordings: list[Path]) -> Iterator[Row | Problem]:
    for path in recordings:
        text = path.with_suffix(".txt")
        if not text.is_file():
            message = f"has no transcript: there is no file {text.name} beside it."
            yield Problem(kind="missing text", source=str(path), message=message)
            continue
        try:
            content = text.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            message = f"byte {error.start + 1} is not UTF-8. Convert the file."
            yield Problem(kind="wrong encoding", source=f"{text}:1", message=message)
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        values = {"audio": str(path.absolute()), "text": " ".join(content.split()), "id": name}
        yield Row(values=values, source=f"{text}:1")


def _librispeech(transcripts: list[Path], files: list[Path]) -> Iterator[Row | Problem]:
    audio = {(path.parent, path.stem): path for path in files if path.suffix.lower() in _AUDIO}
    for path in transcripts:
        for line in read_lines(path):
            if isinstance(line, Problem):
                yield line
                continue
            name, _, text = line[1].strip().partition(" ")
            if not name:
                continue
            source = f"{path}:{line[0]}"
            if (path.parent, name) not in audio:
                message = f"{name}: there is no audio file of this name beside the transcripts."
                yield Problem(kind="missing audio", source=source, message=message)
                continue
            values = {"audio": str(audio[path.parent, name].absolute()), "text": text, "id": name}
            yield Row(values=values | {"speaker": name.partition("-")[0]}, source=source)
