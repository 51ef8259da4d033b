"""Flax weights of earlier versions of `transformers`: `flax_model.msgpack`, read like a PyTorch checkpoint.

The file is a MessagePack map of maps; an array is an extension of type 1 with `[shape, type, bytes]`. Flax has other
names for some tensors and stores matrices and kernels transposed. Both are converted to those of PyTorch, so that the
families' name tables apply, in both backends. Nothing is written in this format.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np

from dragoman.checkpoint.tensors import widen_bfloat16
from dragoman.errors import CheckpointError, UntrustedFileError, did_you_mean
from dragoman.files import open_file

_ARRAY = 1  # extension type
_TYPES = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_CHUNKED = "__msgpack_chunked_array__"  # arrays above 2^30 bytes
_WEIGHTS = {"kernel", "scale", "embedding"}
_MAX_DEPTH = 64
_MAX_ENTRIES = 200_000  # of all maps; an empty one takes a byte in the file and 64 in memory

Array = np.ndarray[Any, np.dtype[Any]]


class MsgpackFile:
    """The tensors of one or several files as a `TensorFile`.

    Args:
        paths: The file, or its shards.

    Raises:
        UntrustedFileError: If a file is not a map of arrays, or is corrupt.
        ModelNotFoundError: If a file cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._tensors: dict[str, Array] = {}
        for path in paths:
            for name, array in _leaves(_unpack(path), path):
                if name in self._tensors:
                    raise _refused(path, f"it has the tensor {name!r} twice")
                self._tensors[name] = array

    def keys(self) -> list[str]:
        return sorted(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._tensor(key).shape)

    def dtype(self, key: str) -> str:
        """Return the data type that `read` returns; bfloat16 is read as float32."""
        return str(self._tensor(key).dtype)

    def read(self, key: str) -> Array:
        return np.array(self._tensor(key), order="C")

    def _tensor(self, key: str) -> Array:
        if key not in self._tensors:
            raise CheckpointError(f"{self.paths[0]} holds no tensor {key!r}.{did_you_mean(key, self._tensors)}")
        return self._tensors[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._tensors = {}


def _unpack(path: Path) -> Mapping[str, Any]:
    with open_file(path) as file:
        raw = file.read()
    try:
        tree = msgpack.unpackb(
            raw,
            ext_hook=_hook(path),
            object_pairs_hook=_counted(path),
            max_array_len=0,  # lists occur only inside the extension
            max_map_len=_MAX_ENTRIES,
        )
    except UntrustedFileError:
        raise
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise _refused(path, str(error)[:100] or type(error).__name__) from error
    if not isinstance(tree, dict):
        raise _refused(path, f"it holds a {type(tree).__name__}, not named tensors")
    return tree


def _counted(path: Path) -> Callable[[list[tuple[Any, Any]]], dict[Any, Any]]:
    entries = 0

    def made(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        nonlocal entries
        entries += 1 + len(pairs)
        if entries > _MAX_ENTRIES:
            raise _refused(path, f"its maps have more than {_MAX_ENTRIES:,} entries")
        return dict(pairs)

    return made


def _hook(path: Path) -> Callable[[int, bytes], Array]:
    def array(kind: int, data: bytes) -> Array:
        if kind != _ARRAY:
            raise _refused(path, f"it holds an extension of type {kind}, but only arrays are allowed")
        shape, dtype, raw = msgpack.unpackb(data, max_array_len=64, max_map_len=0)
        known = isinstance(dtype, str) and dtype in _TYPES
        if not known or not all(isinstance(n, int) and n >= 0 for n in shape) or not isinstance(raw, bytes):
            raise _refused(path, f"it has an array of type {str(dtype)[:20]!r}")
        numbers = widen_bfloat16(np.frombuffer(raw, "<u2")) if dtype == "bfloat16" else np.frombuffer(raw, dtype)
        if numbers.size != math.prod(shape):
            raise _refused(path, f"an array of {numbers.size} numbers has the shape {shape}")
        return numbers.reshape(shape)

    return array


def _leaves(tree: Mapping[str, Any], path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Array]]:
    """Yield tensors under their names in PyTorch."""
    if depth > _MAX_DEPTH:
        raise _refused(path, "its maps are nested too deep")
    for name, value in tree.items():
        if not isinstance(name, str):
            raise _refused(path, f"a tensor has the name {name!r:.30}")
        if isinstance(value, dict) and _CHUNKED in value:
            value = _joined(value, path)
        if isinstance(value, dict):
            yield from _leaves(value, path, f"{prefix}{name}.", depth + 1)
        elif isinstance(value, np.ndarray):
            yield prefix + ("weight" if name in _WEIGHTS else name), value.T if name == "kernel" else value
        else:
            raise _refused(path, f"{prefix}{name} is a {type(value).__name__}, not an array")


def _joined(value: Mapping[str, Any], path: Path) -> Array:
    try:
        chunks, shape = (list(value[name].values()) for name in ("chunks", "shape"))
        return np.concatenate(chunks).reshape(shape)
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        raise _refused(path, f"the chunks of an array do not fit ({str(error)[:60]})") from error


def _refused(path: Path, why: str) -> UntrustedFileError:
    return UntrustedFileError(
        f"{path} is not a file of Flax weights: {why}. Download it again, or ask for a safetensors version of it."
    )
