"""Several processes that serve one port: started together, replaced when one dies, ended together.

The process that starts them serves nothing itself. It holds one end of a pipe to each; when it vanishes, however that
happens, the pipe closes and the process at the other end finishes its requests and ends.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

_log = logging.getLogger("dragoman")


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What a process of several knows of itself.

    Attributes:
        number: From 0; the first also works on jobs.
        listening: The socket that all share.
        folder: Where all may write what the others should know.
    """

    number: int
    listening: socket.socket
    folder: Path
    link: Connection

    def tell_ready(self) -> None:
        """Tell the process that started this one that it takes requests."""
        self.link.send(True)


Job = Callable[[Worker], int]


def run_workers(count: int, job: Job, listening: socket.socket, ready: Callable[[], None]) -> int:
    """Run processes until SIGTERM or Ctrl-C, and return the exit code.

    Args:
        count: Their number.
        job: What each does, until SIGTERM; returns its exit code. Can be pickled.
        listening: The socket that they share.
        ready: Called once all of them take requests.
    """
    with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
        return _Group(count, job, listening, Path(folder)).run(ready)


class _Process:
    """One of the processes, seen from the one that started it."""

    def __init__(self, job: Job, number: int, listening: socket.socket, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        worker = Worker(number=number, listening=listening, folder=folder, link=theirs)
        self.process: SpawnProcess = context.Process(target=_main, args=(job, worker), name=f"worker {number}")
        self.number, self.is_ready = number, False
        self.process.start()
        theirs.close()


class _Group:
    """All of them."""

    def __init__(self, count: int, job: Job, listening: socket.socket, folder: Path) -> None:
        self._start: Callable[[int], _Process] = lambda number: _Process(job, number, listening, folder)
        self._running = [self._start(number) for number in range(count)]
        self._signals = 0

    def run(self, ready: Callable[[], None]) -> int:
        code, announced = 0, False
        with self._signals_passed_on():
            while self._running:
                events = wait([*(one.process.sentinel for one in self._running), *self._silent_links()])
                for one in list(self._running):
                    if one.link in events:
                        one.is_ready = _received(one.link)
                    if one.process.sentinel in events:
                        code = self._ended(one) or code
                if not announced and not self._signals and all(one.is_ready for one in self._running):
                    announced = True
                    ready()
        return code

    def _silent_links(self) -> list[Connection]:
        return [one.link for one in self._running if not one.is_ready]

    def _ended(self, one: _Process) -> int:
        """Replace a process that has died, unless all are to end; return its exit code if it makes all end."""
        one.process.join()
        one.link.close()
        self._running.remove(one)
        code = one.process.exitcode or 0
        if self._signals:
            return code if code > 0 else 0
        if one.is_ready:
            _log.error("Worker %d ended (exit code %d). Another takes its place.", one.number, code)
            self._running.append(self._start(one.number))
            return 0
        self._end(signal.SIGTERM)  # it could not even start, so another could not either
        return code if code > 0 else 1

    def _end(self, number: int, frame: FrameType | None = None) -> None:
        self._signals += 1
        for one in self._running:
            if one.process.is_alive():
                one.process.terminate()

    @contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, self._end) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _received(link: Connection) -> bool:
    try:
        return bool(link.recv())
    except (EOFError, OSError):
        return False


def _main(job: Job, worker: Worker) -> None:
    """Do the job of a process, until SIGTERM or until the process that started it vanishes."""
    os.setsid()  # Ctrl-C in a terminal is for that process, which passes it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        _received(worker.link)  # nothing is ever sent, so this is its end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sys.exit(job(worker))
