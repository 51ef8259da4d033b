"""A worker process of this machine: it takes parts from a pipe, and ends with the process that started it."""

import logging
import os
import signal
import threading
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any

from dragoman.bulk.plan import Part
from dragoman.bulk.settings import Work
from dragoman.bulk.work import Worker
from dragoman.errors import DragomanError, is_out_of_memory

_EVERY = 0.5  # seconds between two looks whether the driver is there


def main(pipe: Connection, work: Work, gpu: str | None, driver: int) -> None:
    """Work until the pipe is closed or the driver is gone.

    Args:
        pipe: Gives parts; takes events: `("ready", None)`, `("item", done)`, `("part", entry)`,
            `("message", (level, text))` and `("error", (message, exit code))`.
        work: What is wanted.
        gpu: The GPU to use, as for CUDA_VISIBLE_DEVICES; `None` changes nothing.
        driver: Process that started this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends this process
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    lock = threading.Lock()

    def tell(kind: str, value: Any = None) -> None:
        with lock:
            try:
                pipe.send((kind, value))
            except OSError:
                os._exit(1)

    _tell_messages(tell)
    holder: list[Worker] = []
    threading.Thread(target=_watch, args=(holder, driver), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: _leave(holder))
    try:
        worker = Worker(work)
        holder.append(worker)
        tell("ready")
        while True:
            part: Part = pipe.recv()
            tell("part", worker.run(part, lambda done: tell("item", done)))
    except EOFError:
        return
    except BaseException as error:
        tell("error", described(error))


def _watch(holder: list[Worker], driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(_EVERY)
    _leave(holder)


def _leave(holder: list[Worker]) -> None:
    try:
        for worker in holder:
            worker.leave()
    finally:
        os._exit(1)


def described(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of an error."""
    if isinstance(error, DragomanError):
        return str(error), error.exit_code
    return f"{type(error).__name__}: {error}", 4 if is_out_of_memory(error) else 1


def _tell_messages(tell: Any) -> None:
    """Send warnings and messages of the log to the driver, which shows them in its own form."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell("message", (record.levelno, record.getMessage()))

    log = logging.getLogger("dragoman")
    log.addHandler(Handler())
    log.setLevel(logging.WARNING)
    log.propagate = False
    warnings.simplefilter("default", UserWarning)
    warnings.showwarning = lambda message, *_: tell("message", (logging.WARNING, str(message)))
