"""Models in processes that are forked after a model has computed. Its twin is `dragoman.jax.forks`."""

import os
import sys
from functools import cache, partial

import torch


@cache
def mind_forks() -> None:
    """Let every later fork of this program compute on one thread.

    A fork copies the memory of OpenMP's threads but not the threads, and would wait for them forever.
    """
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
