"""Tensors between checkpoints and modules: filling modules that were built on the meta device, and saving them.

Memory peaks at about one copy of the weights: nothing is allocated before the files are open, safetensors and `.bin` files are
memory-mapped, and each tensor moves from the file straight into its place.
"""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from dragoman.checkpoint.keymap import KeyMap, matches_any
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import CheckpointError, UntrustedFileError
from dragoman.torch.init import put

__all__ = ["PickleFile", "fill", "their_tensors", "torch_dtype"]


class PickleFile:
    """A `pytorch_model.bin`: read by PyTorch's restricted unpickler, which runs no code, or refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                zipped = file.read(2) == b"PK"
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except (
            pickle.UnpicklingError,
            RuntimeError,
            EOFError,
            ValueError,
            KeyError,
            AttributeError,
            TypeError,
        ) as error:
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
    file: TensorFile,
    *,
    prefix: str = "",
    optional: Iterable[str] = (),
    may_be_fresh: Iterable[str] = (),
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
) -> LoadReport:
    """Move the tensors of a checkpoint into a module.

    Args:
        part: Built on the meta device.
        keymap: Name table of the part.
        file: The open checkpoint.
        prefix: Only names that start with it belong to this part ("encoder.").
        optional: Templates of our tensors that the part may lack although the checkpoint holds them; they are left out.
        may_be_fresh: Templates of our tensors that the checkpoint need not hold.
        dtype: Floating tensors become this type; `None` keeps the file's.
        device: Where they go.

    Returns:
        What came of each tensor. Those named in `fresh` are still on the meta device.
    """
    report = LoadReport()
    expected = part.state_dict(keep_vars=True)
    may_be_fresh, optional = tuple(may_be_fresh), tuple(optional)
    for name, incoming in _spelled(keymap, file, prefix, report).items():
        rule = keymap.rule_for(name)
        ours = keymap.ours(name)
        if not ours:
            why = getattr(rule, "why", None)
            if why is None:
                report.unexpected.append(incoming)
            else:
                report.dropped[incoming] = why
        elif all(our not in expected for our in ours):
            if all(matches_any(optional, our) for our in ours):
                report.dropped[incoming] = "the configuration does not ask for it"
            else:
                report.unexpected.append(incoming)
        else:
            for our, tensor in keymap.read(name, _as_tensor(file.read(incoming))):
                _place(part, expected, our, tensor, dtype, device, report)
    absent = [name for name in expected if name not in set(report.loaded) and name not in report.misshapen]
    report.fresh = [name for name in absent if matches_any(may_be_fresh, name)]
    report.missing = [name for name in absent if name not in set(report.fresh)]
    return report


def _spelled(keymap: KeyMap, file: TensorFile, prefix: str, report: LoadReport) -> dict[str, str]:
    """Map mended names to the names in the file; where several names mean one tensor, the plainest spelling wins."""
    found: dict[str, str] = {}
    for incoming in sorted(file.keys()):
        if not incoming.startswith(prefix):
            continue
        bare = incoming[len(prefix) :]
        name = keymap.spell(bare)
        if name not in found:
            found[name] = incoming
        elif name == bare:
            report.dropped[found[name]] = "another name of the same tensor"
            found[name] = incoming
        else:
            report.dropped[incoming] = "another name of the same tensor"
    return found


def _as_tensor(array: Any) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def _place(
    part: nn.Module,
    expected: Mapping[str, Tensor],
    name: str,
    tensor: Tensor,
    dtype: torch.dtype | None,
    device: torch.device | str,
    report: LoadReport,
) -> None:
    if name not in expected:
        report.unexpected.append(name)
        return
    wanted = expected[name]
    if tensor.shape != wanted.shape:
        report.misshapen[name] = (tuple(tensor.shape), tuple(wanted.shape))
        return
    target = dtype if wanted.is_floating_point() else wanted.dtype
    put(part, name, tensor.to(device=device, dtype=target).contiguous())
    report.loaded.append(name)


def their_tensors(part: nn.Module, keymap: KeyMap, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a part under the names of its checkpoints, each in memory of its own."""
    return {prefix + name: tensor.contiguous() for name, tensor in keymap.write(part.state_dict()).items()}
