"""Weights of upstream's Flax era: `flax_model.msgpack`, read as if it were a PyTorch checkpoint.

The file is a MessagePack map of maps; an array is an extension of type 1 that holds `[shape, type, bytes]`. Flax called
tensors otherwise and stored every matrix and kernel transposed; names and layouts that come out are those of PyTorch,
so the families' name tables apply, in either backend. Nothing is written in this format.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import numpy as np

from dragoman.checkpoint.tensors import widen_bfloat16
from dragoman.errors import CheckpointError, ModelNotFoundError, UntrustedFileError, did_you_mean

__all__ = ["MsgpackFile"]

_ARRAY = 1  # the type of extension
_TYPES = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_CHUNKED = "__msgpack_chunked_array__"  # above 2^30 bytes
_WEIGHTS = {"kernel", "scale", "embedding"}
_DEEPEST = 64

Array = np.ndarray[Any, np.dtype[Any]]


class MsgpackFile:
    """The tensors of one or several files.

    Args:
        paths: The file, or its shards.

    Raises:
        UntrustedFileError: If a file is no map of arrays, or is corrupt.
        ModelNotFoundError: If a file cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._tensors: dict[str, Array] = {}
        for path in paths:
            for name, array in _leaves(_unpack(path), path):
                if name in self._tensors:
                    raise _refused(path, f"the tensor {name!r} is there twice")
                self._tensors[name] = array

    def keys(self) -> list[str]:
        """Return the names of the tensors, sorted."""
        return sorted(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._tensor(key).shape)

    def dtype(self, key: str) -> str:
        """Return the type of its numbers; bfloat16 has become float32."""
        return str(self._tensor(key).dtype)

    def read(self, key: str) -> Array:
        """Return a copy of a tensor in PyTorch's layout."""
        return np.array(self._tensor(key), order="C")

    def _tensor(self, key: str) -> Array:
        if key not in self._tensors:
            raise CheckpointError(f"{self.paths[0]} holds no tensor {key!r}.{did_you_mean(key, self._tensors)}")
        return self._tensors[key]

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the tensors."""
        self._tensors = {}


def _unpack(path: Path) -> Mapping[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    try:
        tree = msgpack.unpackb(raw, ext_hook=_hook(path))
    except UntrustedFileError:
        raise
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise _refused(path, str(error)[:100] or type(error).__name__) from error
    if not isinstance(tree, dict):
        raise _refused(path, f"it holds a {type(tree).__name__} and no named tensors")
    return tree


def _hook(path: Path) -> Callable[[int, bytes], Array]:
    def array(kind: int, data: bytes) -> Array:
        if kind != _ARRAY:
            raise _refused(path, f"it holds an extension of type {kind}, and only arrays are read")
        shape, dtype, raw = msgpack.unpackb(data)
        wide = isinstance(dtype, str) and dtype in _TYPES
        if not wide or not all(isinstance(n, int) and n >= 0 for n in shape) or not isinstance(raw, bytes):
            raise _refused(path, f"an array of type {str(dtype)[:20]!r}")
        numbers = widen_bfloat16(np.frombuffer(raw, "<u2")) if dtype == "bfloat16" else np.frombuffer(raw, dtype)
        if numbers.size != math.prod(shape):
            raise _refused(path, f"an array of {numbers.size} numbers claims the shape {shape}")
        return numbers.reshape(shape)

    return array


def _leaves(tree: Mapping[str, Any], path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Array]]:
    """Yield tensors under PyTorch's names."""
    if depth > _DEEPEST:
        raise _refused(path, "its maps are too deep")
    for name, value in tree.items():
        if not isinstance(name, str):
            raise _refused(path, f"a tensor is called {name!r:.30}")
        if isinstance(value, dict) and _CHUNKED in value:
            value = _joined(value, path)
        if isinstance(value, dict):
            yield from _leaves(value, path, f"{prefix}{name}.", depth + 1)
        elif isinstance(value, np.ndarray):
            yield prefix + ("weight" if name in _WEIGHTS else name), value.T if name == "kernel" else value
        else:
            raise _refused(path, f"{prefix}{name} is a {type(value).__name__} and no array")


def _joined(value: Mapping[str, Any], path: Path) -> Array:
    try:
        chunks, shape = (list(value[name].values()) for name in ("chunks", "shape"))
        return np.concatenate(chunks).reshape(shape)
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        raise _refused(path, f"an array in parts that do not fit ({str(error)[:60]})") from error


def _refused(path: Path, why: str) -> UntrustedFileError:
    return UntrustedFileError(
        f"{path} is not a file of Flax weights: {why}. Download it again, or ask for a safetensors version of it."
    )
