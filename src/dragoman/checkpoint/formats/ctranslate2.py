"""Tensors of CTranslate2's container (`model.bin`).

The file, all little-endian: format version (u32), name of the kind of model, its revision (u32), number of variables
(u32); per variable its name, rank (u8), dimensions (u32 each), data type (u8), bytes (u32), data; then the number of
aliases (u32) and per alias its name and the name of its variable. A string is its length (u16, including a final NUL)
and UTF-8.

The meaning of the tensors is in `ctranslate2_whisper`.

Reference: https://github.com/OpenNMT/CTranslate2 (`model_spec.py`).
"""

import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from dragoman.checkpoint.tensors import widen_bfloat16
from dragoman.errors import CheckpointError, UntrustedFileError, did_you_mean
from dragoman.files import open_file

_VERSIONS = (4, 5, 6)  # before 4, data types were not stored; 6 is the current one
_TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "bfloat16")  # the index is the number in the file
_MAX_RANK = 8
_MAX_VARIABLES = 100_000  # the largest Whisper has 1,500


@dataclass(frozen=True)
class _Variable:
    shape: tuple[int, ...]
    type: str
    offset: int


class Ct2File:
    """A CTranslate2 container, memory-mapped; a `TensorFile` of NumPy arrays.

    Weights stored as 8- or 16-bit integers are read as float32, divided by their scale (the variable of the same name
    plus `_scale`, which is not in `keys`); bfloat16 is read as float32 too.

    Args:
        path: The file, usually `model.bin`.

    Attributes:
        spec: The kind of model, for instance "WhisperSpec".
        revision: The revision of that kind's layout.

    Raises:
        ModelNotFoundError: If there is no such file.
        UntrustedFileError: If it is not such a container, or its counts, names or sizes are wrong.
        CheckpointError: If its version is unknown.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._map = _open(self.path)
        try:
            cursor = _Cursor(self._map, self.path)
            version = cursor.number("I")
            if version not in _VERSIONS:
                raise CheckpointError(
                    f"{path} is not a CTranslate2 container, or has version {version}; versions {_VERSIONS} can be "
                    "read. Convert the model again with a current CTranslate2."
                )
            self.spec, self.revision = cursor.text(), cursor.number("I")
            self._variables = _read_variables(cursor)
            self._read_aliases(cursor)
            cursor.expect_end()
        except BaseException:
            self._map.close()
            raise

    def _read_aliases(self, cursor: "_Cursor") -> None:
        for _ in range(cursor.count()):
            alias, target = cursor.text(), cursor.text()
            if alias in self._variables or target not in self._variables:
                raise cursor.refused(f"its alias {alias!r} for {target!r} is a duplicate or has no variable")
            self._variables[alias] = self._variables[target]
            if target + "_scale" in self._variables:
                self._variables.setdefault(alias + "_scale", self._variables[target + "_scale"])

    def keys(self) -> list[str]:
        """Return the names of all tensors and aliases, sorted, without the scales of quantised weights."""
        return sorted(name for name in self._variables if not self._is_scale(name))

    def _is_scale(self, name: str) -> bool:
        return name.endswith("_scale") and name.removesuffix("_scale") in self._variables

    def __contains__(self, key: str) -> bool:
        return key in self._variables

    def shape(self, key: str) -> tuple[int, ...]:
        return self._variable(key).shape

    def dtype(self, key: str) -> str:
        kind = self._variable(key).type
        return "float32" if kind == "bfloat16" or key + "_scale" in self._variables else np.dtype(kind).name

    def same(self, key: str, other: str) -> bool:
        """Return whether two names are the same tensor."""
        return self._variable(key) is self._variable(other)

    def read(self, key: str, rows: slice = slice(None)) -> np.ndarray[Any, Any]:
        """Return a copy of a tensor.

        Args:
            key: Its name.
            rows: Read only these along the first axis.

        Raises:
            CheckpointError: If there is no such tensor.
            UntrustedFileError: If its scale does not fit it.
        """
        array = self._stored(key, rows)
        scale_key = key + "_scale"
        if scale_key not in self._variables:
            return array
        scale = self._stored(scale_key, slice(None)).astype(np.float32)
        if scale.size not in (1, *self.shape(key)[:1]) or not ((scale > 1e-30) & (scale < np.inf)).all():
            raise UntrustedFileError(f"The scale of {key!r} in {self.path} does not fit it. Download the model again.")
        if scale.size > 1:
            scale = scale.reshape(-1)[rows].reshape(-1, *[1] * (array.ndim - 1))
        return array.astype(np.float32) / scale

    def _stored(self, key: str, rows: slice) -> np.ndarray[Any, Any]:
        """Return a copy of rows of a variable without scaling, bfloat16 as float32."""
        variable = self._variable(key)
        wide = variable.type == "bfloat16"
        numbers = "<u2" if wide else variable.type
        mapped = np.frombuffer(self._map, numbers, math.prod(variable.shape), variable.offset).reshape(variable.shape)
        array = mapped[rows].copy() if variable.shape else mapped.copy()
        return widen_bfloat16(array) if wide else array

    def _variable(self, key: str) -> _Variable:
        if key not in self._variables:
            raise CheckpointError(f"{self.path} holds no tensor {key!r}.{did_you_mean(key, self._variables)}")
        return self._variables[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._map.close()


class _Cursor:
    """A position in the container; never reads past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._at = 0

    def skip(self, size: int) -> int:
        """Advance by `size` bytes and return their start."""
        start = self._at
        if size > len(self._data) - start:
            raise self.refused(f"it ends at byte {len(self._data):,}, in the middle of {size:,} bytes")
        self._at += size
        return start

    def number(self, code: str) -> int:
        """Read one number by its `struct` code."""
        start = self.skip(struct.calcsize("<" + code))
        return int(struct.unpack("<" + code, self._data[start : self._at])[0])

    def count(self) -> int:
        """Read the number of entries that follow."""
        count = self.number("I")
        if count > _MAX_VARIABLES:
            raise self.refused(f"it claims {count:,} variables, at most {_MAX_VARIABLES:,} are allowed")
        return count

    def text(self) -> str:
        """Read a string."""
        start = self.skip(self.number("H"))
        raw = self._data[start : self._at]
        try:
            return raw.rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise self.refused(f"it has a name that is not UTF-8, {raw[:50]!r}") from error

    def expect_end(self) -> None:
        if self._at != len(self._data):
            raise self.refused(f"{len(self._data) - self._at:,} bytes follow its end")

    def refused(self, why: str) -> UntrustedFileError:
        """Return the error for an invalid container."""
        return UntrustedFileError(
            f"{self._path} is not a valid CTranslate2 container: {why}. Download or convert the model again."
        )


def _open(path: Path) -> mmap.mmap:
    with open_file(path) as file:
        if not os.fstat(file.fileno()).st_size:
            raise UntrustedFileError(f"{path} is empty. Download or convert the model again.")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_variables(cursor: _Cursor) -> dict[str, _Variable]:
    variables: dict[str, _Variable] = {}
    for _ in range(cursor.count()):
        name = cursor.text()
        if name in variables:
            raise cursor.refused(f"it has {name!r} twice")
        rank = cursor.number("B")
        if rank > _MAX_RANK:
            raise cursor.refused(f"{name!r} has {rank} dimensions")
        shape = tuple(cursor.number("I") for _ in range(rank))
        type_number, size = cursor.number("B"), cursor.number("I")
        if type_number >= len(_TYPES):
            raise cursor.refused(f"{name!r} has the unknown type {type_number}")
        kind = _TYPES[type_number]
        expected = math.prod(shape) * (2 if kind == "bfloat16" else np.dtype(kind).itemsize)
        if size != expected:
            raise cursor.refused(f"{name!r} of shape {shape} must have {expected:,} bytes, but has {size:,}")
        variables[name] = _Variable(shape, kind, cursor.skip(size))
    return variables
