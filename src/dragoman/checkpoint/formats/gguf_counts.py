"""The counts in a GGUF file, checked against its size before the package `gguf` reads it, which believes them."""

import mmap
import struct
from pathlib import Path

from dragoman.files import open_file

# Bytes of a value by the number of its type; a string and an array have a length of their own.
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MAX_VALUES = 2_000_000  # of all arrays; a vocabulary of 256,000 tokens with its merges has half of them
_MAX_ENTRIES = 100_000  # fields, and tensors
_MAX_DIMENSIONS = 8


def check_counts(path: Path) -> None:
    """Check that the fields and tensors that a file claims fit into it.

    Raises:
        ValueError: If they do not, or are too many.
        ModelNotFoundError: If the file cannot be read.
    """
    with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Counter(data).read()


class _Counter:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 8
        swapped = data[4:6] == b"\0\0"  # the version, of which only the low half is in use, tells the byte order
        self._order = ">" if swapped else "<"
        self._values = 0

    def read(self) -> None:
        if self._data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        tensors, fields = self._number("Q"), self._number("Q")
        if max(tensors, fields) > _MAX_ENTRIES:
            raise ValueError(f"it claims {max(tensors, fields):,} entries, at most {_MAX_ENTRIES:,} are allowed")
        for _ in range(fields):
            self._skip(self._number("Q"))
            self._skip_value(self._number("I"))
        for _ in range(tensors):
            self._skip(self._number("Q"))
            dimensions = self._number("I")
            if dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"it has a tensor of {dimensions} dimensions")
            self._skip(8 * dimensions + 4 + 8)

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip(self._number("Q"))
        elif kind == _ARRAY:
            item, count = self._number("I"), self._number("Q")
            self._values += count
            if item == _ARRAY or self._values > _MAX_VALUES:
                raise ValueError(f"its arrays are nested, or claim more than {_MAX_VALUES:,} values")
            for _ in range(count if item == _STRING else 0):
                self._skip(self._number("Q"))
            if item != _STRING:
                self._skip(self._bytes(item) * count)
        else:
            self._skip(self._bytes(kind))

    def _bytes(self, kind: int) -> int:
        if kind not in _BYTES:
            raise ValueError(f"it has a value of the unknown type {kind}")
        return _BYTES[kind]

    def _number(self, code: str) -> int:
        start = self._at
        self._skip(struct.calcsize(code))
        return int(struct.unpack_from(self._order + code, self._data, start)[0])

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self._at:
            raise ValueError(f"it ends in the middle of {size:,} bytes")
        self._at += size
