"""Tensors in files: `TensorFile`, the interface of every format, and safetensors.

Not here: the names of tensors (`keymap`) and of files (`layout`). PyTorch and JAX are imported by the safetensors
library, when the caller asks for their tensors.
"""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from safetensors import SafetensorError, safe_open

from dragoman._lazy import require
from dragoman.errors import CheckpointError, DragomanError, UntrustedFileError, did_you_mean
from dragoman.files import open_file, parse_json

Framework = Literal["pt", "np", "flax"]

# A name with its entry takes about 100 bytes, so this is enough for 40,000 tensors. The format allows 100 MB, which
# take ten seconds and a gigabyte to parse.
MAX_HEADER_BYTES = 4 * 2**20

_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_CHECKED = {"float64", "float32", "float16", "bfloat16"}


class TensorFile(Protocol):
    """A file, or several presented as one, with tensors by name."""

    def keys(self) -> Sequence[str]:
        """Return the names of all tensors."""

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""

    def dtype(self, key: str) -> str:
        """Return the data type of a tensor by its name in NumPy and PyTorch, for instance "float16"."""

    def read(self, key: str) -> Any:
        """Return a tensor as an array of the framework that the file was opened for."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; tensors that were read stay valid."""


class SafetensorsFile:
    """A safetensors file, memory-mapped.

    PyTorch tensors share the mapped memory and are read on first use; NumPy and JAX arrays are copies. NumPy has no
    bfloat16: such tensors are converted to float32, exactly.

    Args:
        path: The file.
        framework: Framework of the tensors that `read` returns: "pt" (PyTorch), "np" or "flax" (JAX).
        check_finite: Refuse tensors with NaN or infinity. Off by default because it reads every number.

    Raises:
        ModelNotFoundError: If there is no such file.
        UntrustedFileError: If it is not a valid safetensors file.
        MissingDependencyError: If the framework is not installed.

    Reference: https://github.com/huggingface/safetensors#format. In addition to the library's own checks, duplicate
    names and oversized headers are refused.
    """

    def __init__(self, path: str | Path, framework: Framework = "pt", *, check_finite: bool = False) -> None:
        self.path = Path(path)
        self._framework = framework
        self._check_finite = check_finite
        header, self._data_start = _read_header(self.path)
        _require(framework)
        try:
            self._file: Any = safe_open(self.path, framework=framework)
        except (SafetensorError, OSError) as error:
            raise _refused(self.path, str(error)) from error
        header.pop("__metadata__", None)
        self._entries: dict[str, dict[str, Any]] = header  # valid: the library has checked the same bytes

    def keys(self) -> list[str]:
        return sorted(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._entry(key)["shape"])

    def dtype(self, key: str) -> str:
        """Return the data type of a tensor in the file, for instance "bfloat16"."""
        code: str = self._entry(key)["dtype"]
        return _NAMES.get(code, code.lower())

    def read(self, key: str) -> Any:
        """Return a tensor.

        Raises:
            CheckpointError: If there is no such tensor, or the framework lacks its data type.
            UntrustedFileError: If `check_finite` is on and the tensor has NaN or infinity.
        """
        dtype = self.dtype(key)
        try:
            if self._framework == "np" and dtype == "bfloat16":
                tensor = self._read_bfloat16(key)
            else:
                tensor = self._file.get_tensor(key)
        except (SafetensorError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"The tensor {key!r} ({dtype}) of {self.path} cannot be read for {self._framework!r} ({error}). "
                "Convert the checkpoint to float32, float16 or bfloat16."
            ) from error
        # A comparison, unlike a difference, gives no warning for NaN in any framework.
        if self._check_finite and dtype in _CHECKED and not bool((abs(tensor) < float("inf")).all()):
            raise UntrustedFileError(
                f"The tensor {key!r} of {self.path} has NaN or infinite values: its training diverged or the file is "
                "damaged. Use an earlier checkpoint, or download the file again."
            )
        return tensor

    def _read_bfloat16(self, key: str) -> np.ndarray[Any, Any]:
        start, end = self._entry(key)["data_offsets"]
        bits = np.fromfile(self.path, dtype="<u2", count=(end - start) // 2, offset=self._data_start + start)
        return widen_bfloat16(bits).reshape(self.shape(key))

    def _entry(self, key: str) -> dict[str, Any]:
        if key not in self._entries:
            raise CheckpointError(f"{self.path} holds no tensor {key!r}.{did_you_mean(key, self._entries)}")
        return self._entries[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)


class Shards:
    """The shards of a checkpoint as one file.

    Raises:
        UntrustedFileError: If two files hold a tensor of the same name.
    """

    def __init__(self, files: Sequence[TensorFile]) -> None:
        self._files = tuple(files)
        self._owner: dict[str, TensorFile] = {}
        for file in self._files:
            for key in sorted(file.keys()):
                if key in self._owner:
                    raise UntrustedFileError(f"Two shards hold the tensor {key!r}. Save or download the model again.")
                self._owner[key] = file

    def keys(self) -> list[str]:
        return sorted(self._owner)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._of(key).shape(key)

    def dtype(self, key: str) -> str:
        return self._of(key).dtype(key)

    def read(self, key: str) -> Any:
        return self._of(key).read(key)

    def _of(self, key: str) -> TensorFile:
        if key not in self._owner:
            raise CheckpointError(f"The checkpoint holds no tensor {key!r}.{did_you_mean(key, self._owner)}")
        return self._owner[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.__exit__(None, None, None)


def save_safetensors(
    tensors: Mapping[str, Any], path: str | Path, framework: Framework = "pt", metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors into one safetensors file; the same tensors always give the same bytes.

    Args:
        tensors: By name.
        path: The file. For a whole folder use it inside `save_folder`, which is atomic.
        framework: Framework of the tensors: "pt", "np" or "flax" (JAX).
        metadata: Strings for the header. By default `{"format": "pt"}` for every framework: it states that names and
            layouts are PyTorch's, and `transformers` requires it.

    Raises:
        DragomanError: If the file cannot be written.
    """
    about = {"format": "pt"} if metadata is None else dict(metadata)
    _require(framework)
    try:
        if framework == "pt":
            library = require("safetensors.torch", "Writing PyTorch tensors")
            library.save_file(_in_own_memory(tensors), path, about)
        else:
            # The library would silently write the memory of a transposed array untransposed.
            arrays = {key: np.asarray(tensor, order="C") for key, tensor in tensors.items()}
            require("safetensors.numpy", "Writing arrays").save_file(arrays, path, about)
    except (SafetensorError, OSError) as error:
        raise DragomanError(f"{path} cannot be written ({error}). Free some space or choose another folder.") from error


def _in_own_memory(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return contiguous PyTorch tensors; the second of two names of one tensor (an untied BERT's bias) gets a copy."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        found[name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    return found


def widen_bfloat16(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Convert bfloat16 numbers, given as 16-bit integers, to float32, exactly."""
    return (bits.astype("<u4") << 16).view("<f4")


def _require(framework: Framework) -> None:
    """Raise an error with the install command if a framework is missing, before the library fails without one."""
    if framework != "np":
        require({"pt": "torch", "flax": "jax"}[framework], f'Tensors of the framework "{framework}"')


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and the offset of the data."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
        if length > MAX_HEADER_BYTES:
            raise _refused(path, f"its header claims {length:,} bytes, at most {MAX_HEADER_BYTES:,} are allowed")
        if not 2 <= length <= size - 8:
            raise _refused(path, f"its header claims {length:,} bytes, but the file has {size:,} in all")
        raw = file.read(length)
    return parse_json(raw, path, unique_keys=True), 8 + length


def _refused(path: Path, why: str) -> UntrustedFileError:
    return UntrustedFileError(f"{path} is not a valid safetensors file: {why}. Save or download the model again.")
