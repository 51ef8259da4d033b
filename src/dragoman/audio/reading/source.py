"""The source of encoded audio: a path, bytes or an open file, opened as a seekable file.

Errors that do not depend on the content (missing, empty, a folder, a pipe) are raised here; `containers` recognises the
format, and `decode` decodes it.
"""

import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

from dragoman.errors import AudioError

AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"


@dataclass(frozen=True, kw_only=True)
class AudioFile:
    """An open, seekable binary file of known size.

    Attributes:
        name: Name in messages.
        stream: The file object; its position is undefined, so every reader seeks first.
        size: Length in bytes, at least 1.
    """

    name: str
    stream: BinaryIO
    size: int

    def at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`; fewer only at the end of the file, none beyond it."""
        if not 0 <= offset < self.size:  # headers may give any offset
            return b""
        self.stream.seek(offset)
        return self.stream.read(count)


@contextmanager
def open_audio(source: AudioSource) -> Iterator[AudioFile]:
    """Open `source` for the duration of a `with` block.

    A file object is read from its beginning and left open; one that cannot seek (standard input from a pipe) is first
    copied to a temporary file, since audio formats are not read sequentially.

    Raises:
        AudioError: If it is missing, empty, or not a plain file.
    """
    name = _name(source)
    with _stream(source, name) as stream:
        try:
            size = stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise AudioError(f"{name}: cannot be read: {error.strerror or error}.") from error
        if size == 0:
            raise AudioError(f"{name}: is empty (0 bytes). Record, export or copy the audio again.")
        yield AudioFile(name=name, stream=stream, size=size)


def _name(source: AudioSource) -> str:
    """Return the name of `source` for messages, on one line."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        name = "the given bytes"
    else:
        own = getattr(source, "name", None)  # a temporary file's name may be a number
        name = own if isinstance(own, str) and own else "the given file object"
    return name if name.isprintable() else ascii(name)


@contextmanager
def _stream(source: AudioSource, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, str | os.PathLike):
        with _open_path(source, name) as stream:
            yield stream
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    else:
        if _can_seek(source, name):
            yield source
        else:
            with tempfile.TemporaryFile() as copy:
                try:
                    shutil.copyfileobj(source, copy, 1 << 20)
                except OSError as error:
                    raise AudioError(f"{name}: cannot be read to its end: {error.strerror or error}.") from error
                yield copy


def _open_path(path: str | os.PathLike[str], name: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a folder, not an audio file. Pass a file in it, or use `find_audio_files`.")
        if not stat.S_ISREG(mode):  # opening a pipe blocks, and reading a device may never end
            raise AudioError(
                f"{name}: is a pipe, socket or device, not a plain file. Send its bytes to standard "
                "input (`-`) instead."
            )
        return open(path, "rb")
    except FileNotFoundError:
        raise AudioError(f"{name}: there is no such file. Check the spelling and the current folder.") from None
    except PermissionError:
        raise AudioError(f"{name}: cannot be read. Check the permissions of the file and of its folder.") from None
    except (OSError, ValueError) as error:  # a name that is too long or has a null byte, a failing disk
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name}: cannot be opened: {getattr(error, 'strerror', None) or error}.") from error


def _can_seek(source: Any, name: str) -> bool:
    """Return whether a file object can seek; raise an error if it is not a readable binary file object."""
    try:
        empty, seekable = source.read(0), getattr(source, "seekable", None)
    except (AttributeError, TypeError):
        raise AudioError(
            f"Audio must be a path, bytes or a binary file object, but is {type(source).__name__}. "
            "Convert decoded samples with `as_waveform`."
        ) from None
    except (OSError, ValueError) as error:  # closed, or opened for writing
        raise AudioError(f"{name}: cannot be read: {error}.") from error
    if not isinstance(empty, bytes):
        stdin = " (`sys.stdin.buffer`)" if source is sys.stdin else ""
        raise AudioError(f'{name}: is open in text mode. Open it in binary mode, `open(…, "rb")`{stdin}.')
    return seekable is not None and bool(seekable())
