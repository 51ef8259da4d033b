"""FSDP2: all processes of a run share out weights, gradients and optimizer, and write checkpoints in shards.

The weights are whole on every process during a step, and are gathered once for it: processes may then have different
numbers of batches.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from dragoman.errors import ConfigError
from dragoman.model.learning import LearnerOptions
from dragoman.torch.objective import Objective
from dragoman.torch.processes import Processes
from dragoman.torch.saved import check_names


class Shards:
    """A module whose parameters are shared out.

    Args:
        module: Its forward is the whole loss of a batch.
        options: Of the run.
        processes: All, two or more.

    Raises:
        ConfigError: If an option excludes it.
    """

    def __init__(self, module: Objective, options: LearnerOptions, processes: Processes) -> None:
        freezing = options.freezing
        excluded = {
            "training.fp16": options.fp16,
            "model.unfreeze_encoder_step": freezing.encoder_until,
            "model.unfreeze_decoder_step": freezing.decoder_until,
        }
        wrong = [name for name, value in excluded.items() if value]
        if wrong:
            raise ConfigError(f"`{wrong[0]}` and `training.fsdp` exclude each other. Leave one out.")
        mesh = init_device_mesh(processes.device.type, (processes.world,))
        self._module = fully_shard(module, mesh=mesh, reshard_after_forward=False)
        module.touches_all = True  # so that all processes send gradients of the same parameters
        self._module.set_gradient_divide_factor(1.0)  # losses are divided by the labels of all processes
        self._module.set_force_sum_reduction_for_comms(True)

    @contextmanager
    def backward(self, *, last: bool) -> Iterator[None]:
        """Compute the gradients of a batch in the `with` block; the last one sums them over all processes."""
        self._module.unshard()
        self._module.set_requires_gradient_sync(last)
        self._module.set_reshard_after_backward(last)
        self._module.set_is_last_backward(last)
        yield

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Have all weights on every process in the `with` block; nothing is sent inside it."""
        self._module.unshard()
        try:
            yield
        finally:
            self._module.reshard()


def leave_out_unused(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Take the gradients from parameters where they are 0 on every process: no batch has used them."""
    having = [parameter for parameter in parameters if isinstance(parameter.grad, DTensor)]
    gradients = (parameter.grad.to_local() for parameter in having if isinstance(parameter.grad, DTensor))
    counts = processes.sum(*(float(gradient.count_nonzero()) for gradient in gradients))
    for parameter, count in zip(having, counts, strict=True):
        if not count:
            parameter.grad = None


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be shared out as a whole; all processes call this."""
    found: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return found


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors; all processes call this, and each writes its share."""
    save(dict(tensors), checkpoint_id=folder)


def restore_shards(
    folder: Path, optimizer: torch.optim.Optimizer, names: Sequence[str], own: Mapping[str, Tensor]
) -> None:
    """Read what `write_shards` wrote into tensors and an optimizer, shared out in any way.

    Args:
        folder: The folder.
        optimizer: The optimizer.
        names: Of its parameters, in its order.
        own: All other tensors that were written.

    Raises:
        CheckpointError: If it is of another model or run.
    """
    known = set(FileSystemReader(folder).read_metadata().state_dict_metadata)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for number, (name, parameter) in enumerate(zip(names, parameters, strict=True)):
        if f"step/{name}" in known:
            moments = {kind: torch.zeros_like(parameter) for kind in ("exp_avg", "exp_avg_sq")}
            state[number] = {"step": torch.zeros((), device=parameter.device), **moments}
    held = {f"{kind}/{names[number]}": tensor for number, one in state.items() for kind, tensor in one.items()}
    check_names(folder, known ^ (set(held) | set(own)))
    with torch.no_grad():
        load({**own, **held}, checkpoint_id=folder)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
