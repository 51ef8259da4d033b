"""Where encoded audio comes from: a path, bytes or an open file, made into one readable and seekable thing.

Lives here: what can be said without looking inside (missing, empty, a folder, a pipe). What the bytes mean is the
business of `containers`, turning them into samples that of `decode`.
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

__all__ = ["AudioFile", "AudioSource", "open_audio"]

AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"


@dataclass(frozen=True, kw_only=True)
class AudioFile:
    """An open, seekable binary file of known size.

    Attributes:
        name: How messages call it.
        stream: The file itself; its position is nobody's, whoever reads seeks first.
        size: Its length in bytes, at least 1.
    """

    name: str
    stream: BinaryIO
    size: int

    def at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`; fewer only at the end of the file, none beyond it."""
        if not 0 <= offset < self.size:  # headers name any place
            return b""
        self.stream.seek(offset)
        return self.stream.read(count)


@contextmanager
def open_audio(source: AudioSource) -> Iterator[AudioFile]:
    """Open `source` for as long as the `with` block lasts.

    A file object is read from its beginning and left open; one that cannot seek (standard input behind a pipe) is first
    copied to a temporary file, since audio formats are read back and forth.

    Raises:
        AudioError: If there is nothing to read, or it is not a plain file.
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
    """Return what to call `source` in a message that must stay on one line."""
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
            raise AudioError(f"{name}: is a folder, not an audio file. Name a file in it, or use `find_audio_files`.")
        if not stat.S_ISREG(mode):  # opening a pipe would wait, reading a device might never end
            raise AudioError(
                f"{name}: is a pipe, socket or device, not a plain file. Send its bytes to standard "
                "input (`-`) instead."
            )
        return open(path, "rb")
    except FileNotFoundError:
        raise AudioError(f"{name}: there is no such file. Check the spelling and the current folder.") from None
    except PermissionError:
        raise AudioError(f"{name}: may not be read. Check the permissions of the file and of its folder.") from None
    except (OSError, ValueError) as error:  # too long a name, a null byte in it, a failing disk
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name}: cannot be opened: {getattr(error, 'strerror', None) or error}.") from error


def _can_seek(source: Any, name: str) -> bool:
    """Tell whether a file object can go back; refuse what is not a readable binary file object."""
    try:
        empty, seekable = source.read(0), getattr(source, "seekable", None)
    except (AttributeError, TypeError):
        raise AudioError(
            f"Audio must be a path, bytes or a binary file object, but is {type(source).__name__}. "
            "Samples that are already decoded go through `as_waveform`."
        ) from None
    except (OSError, ValueError) as error:  # closed, or opened for writing
        raise AudioError(f"{name}: cannot be read: {error}.") from error
    if not isinstance(empty, bytes):
        stdin = " (`sys.stdin.buffer`)" if source is sys.stdin else ""
        raise AudioError(f'{name}: is open as text. Open it in binary mode, `open(…, "rb")`{stdin}.')
    return seekable is not None and bool(seekable())
