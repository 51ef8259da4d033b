"""Processes for training: a server imports PyTorch once and forks each of them, so that they start at once."""

import multiprocessing
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

_MODULES = ("dragoman.training.run", "dragoman.torch.learner", "dragoman.cli", "soundfile", "jiwer")


@pytest.fixture(scope="session")
def start() -> Callable[..., BaseProcess]:
    """Starts a process that runs some code, with changes of the environment; its output goes to a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_MODULES])

    def started(code: str, log: Any, **environment: str) -> BaseProcess:
        prepared = (
            f"import os, sys\nos.environ.update({environment!r})\n"
            f"output = os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
            "os.dup2(output, 1), os.dup2(output, 2)\n"
        )
        process = context.Process(target=exec, args=(prepared + code, {"__name__": "__main__"}))
        process.start()
        return process

    return started


@pytest.fixture
def start_all(start: Callable[..., BaseProcess]) -> Callable[..., list[BaseProcess]]:
    """Starts several processes as `torchrun` does, each with its number in the environment."""

    def started(code: str, log: Any, count: int) -> list[BaseProcess]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [start(code, log, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(count)]

    return started
