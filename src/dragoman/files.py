"""The small files of a model folder: read with size limits and errors that name the file, written atomically.

Only bytes and JSON. Callers interpret the content and choose the class of the errors. Saving several files of a folder
together is in `dragoman.checkpoint.saving`.
"""

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from dragoman.errors import (
    ConfigError,
    DragomanError,
    ModelNotFoundError,
    OutOfMemoryError,
    UntrustedFileError,
    is_out_of_memory,
)

if sys.platform != "win32":
    import fcntl

JSON_BYTES = 3 * 2**20  # at most twenty times as much in memory, whatever the content
VOCABULARY_BYTES = 128 * 2**20  # of tokenizer.json and other vocabularies; the largest in use have 34 MB
# An empty list takes 3 bytes in a file and 70 in memory, so lists and objects are counted before parsing.
_BYTES_A_CONTAINER = 20

# Deeper than any file in use, and far from the depth at which Python stops copying and comparing.
_MAX_DEPTH = 64

_AGAIN = "Save or download the model again."

_ABANDONED = 24 * 3600  # seconds after which a file that cannot be locked counts as left by a killed process
_BETWEEN = 2.0  # seconds that may pass between the creation of a temporary file and its lock
_TEMPORARY = re.compile(r"\.dragoman-[0-9a-f]{16}\.tmp")

Error = type[DragomanError]


def as_path(given: object, what: str, error: Error = ConfigError) -> Path:
    """Return a path given as a string or a path object.

    Args:
        given: The argument.
        what: Its description, for the message.
        error: Class of the error.

    Raises:
        ConfigError: If it is neither, or empty, or not a valid name of a file.
    """
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise error(f"{what} must be a string or a path, but got a {type(given).__name__}: {given!r:.80}.")
    return Path(name)


@contextmanager
def open_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for reading in a `with` block.

    Raises:
        ModelNotFoundError: If it is missing or cannot be read.
    """
    if not os.path.isfile(path):  # false for folders, pipes and unreadable paths, without an exception
        raise ModelNotFoundError(f"There is no file {path}. Check the folder, or save or download the model again.")
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as cause:
        if is_out_of_memory(cause):
            raise OutOfMemoryError(f"{path} does not fit into memory. Use a smaller model.") from cause
        raise ModelNotFoundError(f"{path} cannot be read ({cause.strerror}). Check its permissions.") from cause


def read_bytes(path: str | Path, max_bytes: int, error: Error = UntrustedFileError) -> bytes:
    """Read a whole file.

    Args:
        path: The file.
        max_bytes: Size above which the file is refused.
        error: Class of the error for that.

    Raises:
        ModelNotFoundError: If it is missing or cannot be read.
        UntrustedFileError: If it is too large.
    """
    with open_file(path) as file:
        raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise error(f"{path} is larger than the limit of {max_bytes:,} bytes. Check that it is the right file.")
    return raw


def read_json(path: str | Path, error: Error = UntrustedFileError, *, max_bytes: int = JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file with one object.

    Args:
        path: The file.
        error: Class of the error for its content.
        max_bytes: Size above which the file is refused.

    Raises:
        ModelNotFoundError: If it is missing or cannot be read.
        UntrustedFileError: If it is too large, nested too deep, not UTF-8, not JSON or not an object.
    """
    raw = read_bytes(path, max_bytes, error)
    return parse_json(raw, path, error, max_containers=max_bytes // _BYTES_A_CONTAINER)


def find_json(path: str | Path, error: Error = UntrustedFileError, *, max_bytes: int = JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file that may be missing: the object is then empty; see `read_json`."""
    return read_json(path, error, max_bytes=max_bytes) if os.path.isfile(path) else {}


def parse_json(
    raw: bytes,
    source: str | Path,
    error: Error = UntrustedFileError,
    *,
    max_containers: int = 200_000,
    unique_keys: bool = False,
) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        raw: The bytes.
        source: The file, for the message.
        error: Class of the error.
        max_containers: Number of lists and objects above which the bytes are refused.
        unique_keys: Refuse duplicate keys; otherwise the last one counts.

    Raises:
        UntrustedFileError: If they are nested too deep, not UTF-8, not JSON or not an object.
    """
    if raw.count(b"[") + raw.count(b"{") > max_containers:
        raise error(f"{source} holds more than {max_containers:,} lists and objects: refused.")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("the same key twice in one object")
        return found

    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=unique if unique_keys else None)
        if b"\\ud" in raw.lower():  # surrogates, which UTF-8 files and tokenizers do not allow
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as cause:  # invalid UTF-8 and too many digits are ValueErrors too
        raise error(f"{source} is not valid JSON ({str(cause)[:100]}). {_AGAIN}") from cause
    if not isinstance(value, dict):
        raise error(f"{source} must hold a JSON object, but holds a {type(value).__name__}. {_AGAIN}")
    if _is_deeper(value, _MAX_DEPTH):
        raise error(f"{source} nests lists and objects more than {_MAX_DEPTH} levels deep. {_AGAIN}")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        children = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in level)
        level = [child for child in children if isinstance(child, dict | list)]
    return bool(level)


def claim(path: Path) -> int:
    """Mark a temporary file or folder as in use until the returned descriptor is closed, or the process is killed.

    Raises:
        OSError: If it cannot be opened.
    """
    if sys.platform == "win32":
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # some network disks have no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_abandoned(path: Path) -> bool:
    """Return whether a temporary file or folder was left by a process that was killed."""
    with suppress(OSError):
        if sys.platform != "win32":
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                return False
            except OSError:  # no locks: its age decides
                pass
            finally:
                os.close(descriptor)
        return path.stat().st_mtime < time.time() - _ABANDONED
    return False


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically: it always has either the old or the new content. A missing folder is created.

    Raises:
        DragomanError: If it cannot be written; the old content is unchanged.
    """
    path = Path(path)
    # a short name of its own: a file name of maximum length leaves no room for a suffix
    temporary = path.with_name(f".dragoman-{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        with temporary.open("xb") as file:
            mark = claim(temporary)
            try:
                file.write(content)
                file.flush()
                os.replace(temporary, path)
            finally:
                os.close(mark)
    except OSError as cause:
        raise DragomanError(
            f"{path} cannot be written ({cause.strerror or cause}). Free some space or choose another folder."
        ) from cause
    finally:  # Ctrl-C must not leave the temporary file either
        with suppress(OSError):
            temporary.unlink()


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            old = _TEMPORARY.fullmatch(entry.name) and entry.stat().st_mtime < time.time() - _BETWEEN
            if old and is_abandoned(Path(entry.path)):
                os.unlink(entry.path)


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in the style of `transformers`: sorted keys, two spaces, plain Unicode.

    Raises:
        DragomanError: If it cannot be written; the old content is unchanged.
    """
    write_bytes(path, (json.dumps(dict(content), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())
