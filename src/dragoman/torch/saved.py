"""What a checkpoint of training holds of PyTorch: weights and the optimizer's state, exactly, by our names."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dragoman.checkpoint.tensors import SafetensorsFile
from dragoman.errors import CheckpointError

_AVERAGE = "average"


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Sequence[str], averages: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return all tensors of an optimizer and the averages of weights, as `exp_avg/encoder.…`.

    Args:
        optimizer: The optimizer.
        names: Of its parameters, in its order.
        averages: By name.
    """
    state = optimizer.state_dict()["state"]
    held = {f"{kind}/{names[number]}": tensor for number, own in state.items() for kind, tensor in own.items()}
    return {**held, **{f"{_AVERAGE}/{name}": mean for name, mean in averages.items()}}


def restore_weights(own: Mapping[str, Tensor], path: Path) -> None:
    """Copy all weights of a file into `own`.

    Raises:
        CheckpointError: If other tensors are in it.
    """
    with SafetensorsFile(path) as file, torch.no_grad():
        _check(path, set(file.keys()) ^ set(own))
        _check(path, {name for name, tensor in own.items() if file.shape(name) != tuple(tensor.shape)})
        for name, tensor in own.items():
            tensor.copy_(file.read(name))


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Sequence[str], averages: Mapping[str, Tensor], path: Path
) -> None:
    """Give an optimizer, and averages of weights, what `optimizer_tensors` returned.

    Raises:
        CheckpointError: If it is of other parameters.
    """
    numbers = {name: number for number, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    with SafetensorsFile(path) as file, torch.no_grad():
        keys = [(key, *key.split("/", 1)) for key in file.keys()]  # noqa: SIM118 (not a dictionary)
        kept = {name for _, kind, name in keys if kind == _AVERAGE}
        _check(path, ({name for _, kind, name in keys if kind != _AVERAGE} - set(numbers)) | (kept ^ set(averages)))
        for key, kind, name in keys:
            if kind == _AVERAGE:
                averages[name].copy_(file.read(key))
            else:
                state.setdefault(numbers[name], {})[kind] = file.read(key).clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _check(path: Path, wrong: Collection[str]) -> None:
    if wrong:
        raise CheckpointError(
            f"{path} is of another model or run: {len(wrong)} tensors differ, such as {min(wrong)}. Resume with the "
            "options under `model`, and with `training.ema_decay` and `training.ctc_weight`, that the run began with."
        )
