"""Parts of a file, and bytes in place of others, joined to a file for a decoder."""

import io
import os
from bisect import bisect
from itertools import accumulate
from typing import Any, TypeAlias

from dragoman.audio.reading.source import AudioFile

Piece: TypeAlias = "tuple[int, int] | bytes"
"""Offset and size of a part of the file, or bytes to be read in its place."""


class ByteRanges(io.RawIOBase):
    """Pieces of a file, joined. `claimed` is the size that it reports."""

    def __init__(self, audio: AudioFile, pieces: list[Piece], claimed: int | None = None) -> None:
        self._audio, self._pieces = audio, pieces
        sizes = (len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces)
        self._starts = list(accumulate(sizes, initial=0))  # of each piece, and the end
        self._claimed = self._starts[-1] if claimed is None else claimed
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        position = self._position
        if position > self._starts[-1]:  # libsndfile looks for tags at the claimed end: redirect to the true end
            position += self._starts[-1] - self._claimed
        index = bisect(self._starts, position) - 1
        if not 0 <= index < len(self._pieces):
            return b""
        piece, inside = self._pieces[index], position - self._starts[index]
        left = self._starts[index + 1] - position
        count = left if size < 0 else min(size, left)
        known = isinstance(piece, bytes)
        data = bytes(piece[inside : inside + count]) if known else self._audio.at(int(piece[0]) + inside, count)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        done = 0
        while done < len(buffer) and (data := self.read(len(buffer) - done)):
            buffer[done : done + len(data)] = data
            done += len(data)
        return done

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}[whence]
        return self._position

    def tell(self) -> int:
        return self._position
