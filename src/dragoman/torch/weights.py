"""Tensors between checkpoints and modules: filling modules that were built on the meta device, and saving them.

Memory peaks at about one copy of the weights: nothing is allocated before the files are open, safetensors and `.bin`
files are memory-mapped, and each tensor moves from the file straight into its place.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from dragoman.checkpoint import filling
from dragoman.checkpoint.filling import Readable
from dragoman.checkpoint.keymap import KeyMap
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import CheckpointError, UntrustedFileError
from dragoman.torch.net.init import put
from dragoman.torch.net.layers import LoraLinear

__all__ = ["PickleFile", "fill", "their_tensors", "torch_dtype"]


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


def torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """Return the PyTorch type that a name means: "float16", "torch.float16".

    Raises:
        CheckpointError: If it is not a floating type.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise CheckpointError(
            f'`dtype` must be "float32", "float16", "bfloat16", "float64" or "auto", but is {dtype!r}.'
        )
    return found


def fill(
    part: nn.Module,
    keymap: KeyMap,
    file: Readable,
    *,
    prefix: str = "",
    optional: Iterable[str] = (),
    may_be_fresh: Iterable[str] = (),
    copies: Iterable[tuple[str, str]] = (),
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
) -> LoadReport:
    """Move the tensors of a checkpoint into a module that was built on the meta device.

    `dtype` is that of the floating tensors, `None` for the file's; `device` is where they go; for the rest see
    `dragoman.checkpoint.filling.fill`. Tensors named in the report's `fresh` are still on the meta device.
    """
    expected = part.state_dict(keep_vars=True)

    def place(name: str, array: Any) -> None:
        tensor = array if isinstance(array, Tensor) else torch.from_numpy(array)
        target = dtype if expected[name].is_floating_point() else expected[name].dtype
        put(part, name, tensor.to(device=device, dtype=target).contiguous())

    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    return filling.fill(
        shapes, place, keymap, file, prefix=prefix, optional=optional, may_be_fresh=may_be_fresh, copies=copies
    )


def _folded(part: nn.Module, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the tensors of a part by our names, a LoRA folded into its layer."""
    own = dict(part.state_dict() if tensors is None else tensors)
    for path, module in part.named_modules():
        if isinstance(module, LoraLinear):
            narrow = (own.pop(f"{path}.lora_{letter}") for letter in "ab")
            own[f"{path}.weight"] = module.spec.folded(own[f"{path}.weight"], *narrow)
    return own


def their_tensors(
    part: nn.Module, keymap: KeyMap, prefix: str = "", tensors: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a part, or `tensors` in their place, under the names of its checkpoints, in own memory."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in keymap.write(_folded(part, tensors)).items():
        whole = tensor.contiguous()
        # two names of one tensor (an untied BERT's bias): safetensors wants each on its own
        found[prefix + name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    return found
