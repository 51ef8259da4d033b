"""`pytorch_model.bin` files, memory-mapped and read without running code."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from dragoman.errors import UntrustedFileError

__all__ = ["PickleFile"]


class PickleFile:
    """A `pytorch_model.bin`: read by PyTorch's restricted unpickler, which runs no code, or refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                zipped = file.read(2) == b"PK"
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
