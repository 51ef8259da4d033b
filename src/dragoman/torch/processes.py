"""The processes of one training run, as `torchrun` starts them; without it there is one."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

_AT_ONCE = 2**24  # numbers of gradients that are summed in one message


class Processes:
    """What processes tell each other; every method is called by all of them, in the same order.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.
        device: What this process computes on.
    """

    def __init__(self, *, use_cpu: bool = False) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        gpu = torch.cuda.is_available() and not use_cpu
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
        self._owner = False
        if gpu:
            torch.cuda.set_device(self.device)
        if self.world > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if gpu else "gloo")
            self._owner = True

    def sum(self, *numbers: float) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.tolist()

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients by their sums over all processes; what has none anywhere keeps none."""
        if self.world == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        have = self.sum(*(float(parameter.grad is not None) for parameter in learning))
        held: list[Tensor] = []
        for parameter, count in zip(learning, have, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if sum(one.numel() for one in held) + parameter.numel() > _AT_ONCE:
                _sum_together(held)
                held = []
            held.append(parameter.grad)
        _sum_together(held)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def close(self) -> None:
        """End the communication that this object began."""
        if self._owner:
            distributed.destroy_process_group()


def _sum_together(tensors: Sequence[Tensor]) -> None:
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, piece in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))
