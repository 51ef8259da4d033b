"""Tensors copied out of their files, which may then be cut, overwritten or removed.

Without a copy, PyTorch's tensors are the mapped file: a file that is cut while a model is in use kills the process
(SIGBUS), and one that is overwritten in place changes the model.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from array_api_compat import array_namespace

from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import UntrustedFileError

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Copied:
    """A tensor file that returns copies."""

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self.keys, self.shape, self.dtype = file.keys, file.shape, file.dtype

    def read(self, key: str) -> Any:
        """Return a copy of a tensor."""
        tensor = self._file.read(key)
        return array_namespace(tensor).asarray(tensor, copy=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(None, None, None)


def check_hashes(paths: Sequence[Path]) -> None:
    """Compare files with their SHA-256 where it is known: the hub's cache names large files by it.

    Raises:
        UntrustedFileError: If one differs.
    """
    for path in paths:
        expected = path.resolve().name
        if path.is_symlink() and _SHA256.fullmatch(expected):
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise UntrustedFileError(
                    f"{path} is damaged: its SHA-256 is {found}, expected {expected}. Download the model again with "
                    "`force_download=True`."
                )
