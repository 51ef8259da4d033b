"""What a checkpoint of training holds of PyTorch: weights and the optimizer's state, exactly, by our names."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from dragoman.checkpoint.ctc_head import CtcHead
from dragoman.checkpoint.tensors import SafetensorsFile
from dragoman.errors import CheckpointError
from dragoman.torch.backend import own_tensors

_BESIDE = ("average/", "scaler/")


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Sequence[str], beside: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return all tensors of an optimizer, as `exp_avg/encoder.…`, and what is kept beside it.

    Args:
        optimizer: The optimizer.
        names: Of its parameters, in its order.
        beside: Averages of weights and the like, under names such as `average/encoder.…`.
    """
    state = optimizer.state_dict()["state"]
    held = {f"{kind}/{names[number]}": tensor for number, own in state.items() for kind, tensor in own.items()}
    return {**held, **beside}


def restore_weights(own: Mapping[str, Tensor], path: Path) -> None:
    """Copy all weights of a file into `own`.

    Raises:
        CheckpointError: If other tensors are in it.
    """
    with SafetensorsFile(path) as file, torch.no_grad():
        check_names(path, set(file.keys()) ^ set(own))
        check_names(path, {name for name, tensor in own.items() if file.shape(name) != tuple(tensor.shape)})
        for name, tensor in own.items():
            tensor.copy_(file.read(name))


def average_weights(model: nn.Module, head: CtcHead | None, paths: Sequence[Path]) -> None:
    """Give a model and its head for CTC the mean of the weights in some files; of whole numbers, those of the first.

    Raises:
        CheckpointError: If a file lacks a tensor of the model, or has one of another shape.
    """
    own = own_tensors(model)
    if head is not None:
        own |= {f"ctc_head.{name}": torch.from_numpy(array) for name, array in head._asdict().items()}
    with ExitStack() as stack, torch.no_grad():
        files = [stack.enter_context(SafetensorsFile(path)) for path in paths]
        for path, file in zip(paths, files, strict=True):
            check_names(path, set(own) - set(file.keys()))
            check_names(path, {name for name, tensor in own.items() if file.shape(name) != tuple(tensor.shape)})
        for name, tensor in own.items():
            found = [file.read(name) for file in (files if tensor.is_floating_point() else files[:1])]
            tensor.copy_(sum(one.double() for one in found) / len(found))


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Sequence[str], beside: Mapping[str, Tensor], path: Path
) -> None:
    """Give an optimizer, and the tensors kept beside it, what `optimizer_tensors` returned.

    Raises:
        CheckpointError: If it is of other parameters.
    """
    numbers = {name: number for number, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    with SafetensorsFile(path) as file, torch.no_grad():
        keys = set(file.keys())
        own = {key for key in keys if key.startswith(_BESIDE)}
        check_names(path, ({key.split("/", 1)[1] for key in keys - own} - set(numbers)) | (own ^ set(beside)))
        for name, tensor in beside.items():
            tensor.copy_(file.read(name))
        for key in sorted(keys - own):
            kind, name = key.split("/", 1)
            state.setdefault(numbers[name], {})[kind] = file.read(key).clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def check_names(path: Path, wrong: Collection[str]) -> None:
    """Refuse a checkpoint if tensors of some names are wrong.

    Raises:
        CheckpointError: If there are any.
    """
    if wrong:
        raise CheckpointError(
            f"{path} is of another model or run: {len(wrong)} tensors differ, such as {min(wrong)}. Resume with the "
            "options under `model`, and with `training.ema_decay`, `training.ctc_weight` and `training.fp16`, that "
            "the run began with."
        )
