"""`pytorch_model.bin` files, memory-mapped and read without running code.

Before PyTorch reads a file, its sizes are checked: what would take much more memory than the file has bytes is refused.
"""

import os
import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import torch
from torch import Tensor

from dragoman.errors import UntrustedFileError

# Tensors may share memory (tied weights), so together they may be larger than the file.
_TIMES_THE_FILE = 8
_ALLOWANCE = 2**26  # bytes
_MAX_PICKLE_BYTES = 2**26  # the names and shapes of 100,000 tensors take a third
_MAX_DIRECTORY_BYTES = 2**23  # of an archive; 80,000 tensors
_LEGACY_PICKLES = 5  # magic number, protocol, system, tensors, names of the storages
_REBUILT = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state"}


class PickleFile:
    """A `pytorch_model.bin`, read by PyTorch's restricted unpickler, which runs no code; anything else is refused.

    Args:
        path: The file.

    Raises:
        UntrustedFileError: If it is corrupt, holds anything but dense tensors by name, or would take far more memory
            than it has bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            zipped = _check_sizes(path)
            with warnings.catch_warnings():  # about protocols of pickles, which are read or refused either way
                warnings.simplefilter("ignore", UserWarning)
                data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except MemoryError:
            raise
        except Exception as error:  # there is no telling what a broken pickle or archive makes the unpickler raise
            reason = str(error).split("\n", 1)[0][:160]
            raise UntrustedFileError(
                f"{path} is not a file of plain tensors, or it is corrupt ({reason}). It was refused: only tensors are "
                "read from .bin files. Ask for a safetensors version of this model."
            ) from error
        if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
            data = data["state_dict"]
        if not isinstance(data, Mapping) or not all(isinstance(v, Tensor) for v in data.values()):
            raise UntrustedFileError(f"{path} must hold named tensors and nothing else.")
        self._tensors: dict[str, Tensor] = dict(data)
        _check_tensors(self._tensors, path)

    def keys(self) -> list[str]:
        """Return the names of the tensors, sorted."""
        return sorted(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._tensors[key].shape)

    def dtype(self, key: str) -> str:
        """Return the type of its numbers."""
        return str(self._tensors[key].dtype).removeprefix("torch.")

    def read(self, key: str) -> Tensor:
        """Return a tensor."""
        return self._tensors[key]

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the tensors."""
        self._tensors = {}


def _check_tensors(tensors: Mapping[Any, Tensor], path: Path) -> None:
    """Raise an error unless the tensors are plain, named by strings, and not much larger than the file."""
    total = 0
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise UntrustedFileError(f"{path} names a tensor {name!r:.40}; names must be strings.")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
            raise UntrustedFileError(
                f"The tensor {name!r:.80} of {path} is sparse, quantised, nested or without values. Save the model "
                "with dense tensors (tensor.to_dense(), tensor.dequantize())."
            )
        size = tensor.numel() * tensor.element_size()
        total += size
        if size > tensor.untyped_storage().nbytes():
            raise UntrustedFileError(
                f"The tensor {name!r:.80} of {path} repeats its numbers (shape {list(tensor.shape)}, strides "
                f"{list(tensor.stride())}) and would take {size:,} bytes. Save it with tensor.contiguous()."
            )
    if total > _TIMES_THE_FILE * path.stat().st_size + _ALLOWANCE:
        raise UntrustedFileError(f"{path} would take {total:,} bytes, many times its size. Save or download it again.")


def _check_sizes(path: Path) -> bool:
    """Return whether a file is a ZIP archive; raise a `ValueError` if it claims more than it has."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(2) == b"PK":
            _check_archive(file, size)
            return True
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            _check_pickle(file, size)
        return False


def _check_archive(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(cast(BinaryIO, _Directory(file))) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its members claim more bytes than it has")
        for member in members:
            if member.filename.endswith("data.pkl"):
                if member.file_size > _MAX_PICKLE_BYTES:
                    raise ValueError(f"its list of tensors has {member.file_size:,} bytes")
                with archive.open(member) as pickle:
                    _check_pickle(pickle, size)


def _check_pickle(file: Any, size: int) -> None:
    """Read the instructions of a pickle without following them: the kinds of objects, and the storages' elements."""
    elements = last = 0
    number = False  # whether the last instruction was a number
    for opcode, argument, place in _instructions(_Bounded(file)):
        if (place or 0) > _MAX_PICKLE_BYTES:
            raise ValueError(f"its list of tensors has more than {_MAX_PICKLE_BYTES:,} bytes")
        if opcode == "GLOBAL":
            _check_global(str(argument))
        elif "PUT" in opcode and number:
            raise ValueError("it reuses numbers")  # which would hide the elements of a storage
        elif opcode.endswith("PERSID"):
            elements += last  # the last number of a storage's description
            if elements > 2 * size + _ALLOWANCE:
                raise ValueError(f"its tensors claim {elements:,} numbers, but it has {size:,} bytes")
        number = opcode.startswith(("BININT", "INT", "LONG")) and isinstance(argument, int)
        last = int(argument) if number and isinstance(argument, int) else last


class _Directory:
    """A file of which no read is larger than the directory of an archive may be, which takes much more memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self.seek, self.seekable, self._file = file.tell, file.seek, file.seekable, file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_DIRECTORY_BYTES:
            size = min(size, _MAX_DIRECTORY_BYTES + 1) if size > 0 else _MAX_DIRECTORY_BYTES + 1
        found = self._file.read(size)
        if len(found) > _MAX_DIRECTORY_BYTES:
            raise ValueError(f"its directory has more than {_MAX_DIRECTORY_BYTES:,} bytes")
        return found


class _Bounded:
    """A file of which no read is larger than a list of tensors may be, because Python allocates before it reads."""

    def __init__(self, file: Any) -> None:
        self.tell = file.tell
        self._file = file

    def read(self, size: int) -> bytes:
        if size > _MAX_PICKLE_BYTES:
            raise ValueError(f"its list of tensors claims {size:,} bytes")
        return bytes(self._file.read(size))

    def readline(self) -> bytes:
        return bytes(self._file.readline(_MAX_PICKLE_BYTES))


def _instructions(file: Any) -> Iterator[tuple[str, object, int | None]]:
    for opcode, argument, place in pickletools.genops(file):
        yield opcode.name, argument, place


def _check_global(name: str) -> None:
    last = name.rpartition(" ")[2]
    if last == "bytearray" or last.endswith("Tensor") or (last.startswith("_rebuild") and last not in _REBUILT):
        raise ValueError(f"it holds {name.replace(' ', '.')}, not only dense tensors")
