"""Models in processes that are forked after a model has computed. Its twin is `dragoman.torch.forks`."""

import os
from functools import cache

from dragoman.errors import DragomanError


@cache
def _process() -> int:
    """Return the process that JAX started in; a fork inherits the answer."""
    return os.getpid()


def mind_forks() -> None:
    """Refuse to compute in a fork: it copies the memory of JAX's threads but not the threads, and would hang.

    Raises:
        DragomanError: If this process was forked from one in which JAX had started.
    """
    if os.getpid() != _process():
        raise DragomanError(
            "JAX cannot compute in a process that was forked after JAX had started: it would hang. Start processes by "
            'multiprocessing.get_context("spawn"), and load the model in each of them.'
        )
