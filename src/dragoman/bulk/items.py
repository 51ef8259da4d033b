"""From what the user names to items: the rows of a manifest, or the recordings of a folder, here or in a store."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dragoman.bulk.remote import file_system, is_remote, store_errors
from dragoman.data.formats.folders import find_table
from dragoman.data.formats.huggingface import is_saved
from dragoman.data.formats.kaldi import is_kaldi
from dragoman.data.formats.tables import table_kind
from dragoman.data.manifest import scan_manifest
from dragoman.errors import AudioError, DataError, ModelNotFoundError
from dragoman.transcriber.recordings import AUDIO_EXTENSIONS, find_audio_files


@dataclass(frozen=True, kw_only=True)
class Item:
    """A recording, or a part of one, to transcribe; or a line of the manifest that names none.

    Attributes:
        id: Its name, unique in the manifest; `train.tsv:12` for a line that cannot be used.
        path: Of the file, or its address.
        offset: Where it begins in the file, in seconds.
        duration: Its length in seconds; `None` for all that follows.
        version: Size and time of the file when it was planned, which tell whether it was changed; `None` if unknown.
        size: Bytes of the file; 0 if unknown.
        problem: Why it cannot be used, if so.
    """

    id: str
    path: str | None
    offset: float = 0.0
    duration: float | None = None
    version: str | None = None
    size: int = 0
    problem: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a file."""
        return self.offset == 0 and self.duration is None

    @property
    def length(self) -> float:
        """What tells short items from long ones: seconds, or else bytes as if of 16-bit samples at 16 kHz."""
        return self.size / 32_000 if self.duration is None else self.duration


def read_items(path: str, reading: Mapping[str, Any]) -> list[Item]:
    """Return the items of a manifest or folder, in their order, those that cannot be used included.

    Args:
        path: Anything that `dragoman.data.manifest.scan_manifest` reads, where texts may be missing; a folder of
            recordings; or the address of one of these in an object store.
        reading: `columns`, `split` and `audio_root`, as for `scan_manifest`.

    Raises:
        DataError: If the manifest as a whole is malformed, or there are no items.
        ModelNotFoundError: If there is no such file or folder.
    """
    if is_remote(path):
        return _read_remote(path.rstrip("/"), reading)
    place = Path(path)
    if place.is_dir() and not is_saved(place) and not is_kaldi(place):
        split = reading.get("split")
        table = find_table(place, split)
        if table is None:
            return _in_folder(place / split if split and (place / split).is_dir() else place)
        place = table
    return list(_from_manifest(str(place), reading, remote=""))


def signature(path: str) -> str | None:
    """Return what changes with a manifest; `None` for a folder or a remote one, which must be read to know."""
    place = Path(path)
    return _version(place)[0] if not is_remote(path) and place.is_file() else None


def _version(path: str | Path) -> tuple[str | None, int]:
    """Return the version of a file, and its size."""
    try:
        facts = os.stat(path)
    except OSError:
        return None, 0
    return f"{facts.st_size}-{facts.st_mtime_ns}", facts.st_size


def _in_folder(folder: Path) -> list[Item]:
    try:
        files = find_audio_files([folder])
    except AudioError as error:
        raise DataError(str(error)) from error
    return [_item(file.relative_to(folder).as_posix(), str(file)) for file in files]


def _item(name: str, path: str) -> Item:
    version, size = _version(path)
    return Item(id=name, path=path, version=version, size=size)


def _from_manifest(path: str, reading: Mapping[str, Any], remote: str, shown: str | None = None) -> Iterator[Item]:
    found = scan_manifest(path, **reading, needed=("audio",), remote=remote)
    if not len(found) + len(found.problems):
        raise DataError(f"{shown or path}: holds no items. Check that it is the right file.")
    for one in found:
        version, size = (None, 0) if is_remote(one.audio) else _version(one.audio)
        yield Item(id=one.id, path=one.audio, offset=one.offset, duration=one.duration, version=version, size=size)
    sources: Counter[str] = Counter()
    for problem in found.problems:
        source = problem.source.replace(path, shown or path)
        sources[source] += 1
        again = "" if sources[source] == 1 else f" ({sources[source]})"
        yield Item(id=source + again, path=None, problem=f"{problem.kind}: {problem.message}")


def _read_remote(url: str, reading: Mapping[str, Any]) -> list[Item]:
    files, inside = file_system(url)
    with store_errors(url):
        listed = {name: facts for name, facts in files.find(inside, detail=True).items() if facts["type"] == "file"}
    if not listed:
        raise ModelNotFoundError(f"{url}: there is no such file or folder. Check the spelling.")
    if list(listed) == [inside]:
        return _remote_table(url, reading)
    root = url[: len(url) - len(inside)] if url.endswith(inside) else url.split("://")[0] + "://"
    tables = [name for name in listed if str(PurePosixPath(name).parent) == inside and _is_table(name)]
    if tables:
        named = [
            name for name in tables if PurePosixPath(name).stem.split(".")[0] == (reading.get("split") or "metadata")
        ]
        if len(named or tables) > 1:
            raise DataError(f"{url}: holds several tables: {', '.join(tables)}. Name one of them, or a `split`.")
        return _remote_table(root + (named or tables)[0], reading)
    return [
        Item(
            id=str(PurePosixPath(name).relative_to(inside)),
            path=root + name,
            version=f"{facts['size']}-{facts.get('ETag') or facts.get('LastModified') or facts.get('created', '')}",
            size=facts["size"],
        )
        for name, facts in sorted(listed.items())
        if PurePosixPath(name).suffix.lower() in AUDIO_EXTENSIONS
    ]


def _is_table(name: str) -> bool:
    return table_kind(Path(name)) is not None and not name.lower().endswith((".txt", ".txt.gz"))


def _remote_table(url: str, reading: Mapping[str, Any]) -> list[Item]:
    files, inside = file_system(url)
    with tempfile.TemporaryDirectory() as folder, store_errors(url):
        local = os.path.join(folder, PurePosixPath(inside).name)
        files.get_file(inside, local)
        given = {**reading, "audio_root": None}
        root = reading.get("audio_root") or url.rpartition("/")[0]
        return list(_from_manifest(local, given, remote=str(root), shown=url))
