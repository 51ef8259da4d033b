"""Worker processes on this machine: parts go out, rows come back, processes that die are replaced."""

import logging
import multiprocessing
import os
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from dragoman.bulk import process
from dragoman.bulk.plan import Part
from dragoman.bulk.settings import Work
from dragoman.errors import DragomanError, OutOfMemoryError

_log = logging.getLogger("dragoman")

_STARTS = 3  # of a worker that dies before it is ready, one after the other
_FRUITLESS = 10  # deaths of workers during a part without a new row

Event = tuple[str, Any]


class _Process:
    """A worker process, and the part that it has."""

    def __init__(self, work: Work, gpu: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, work, gpu, os.getpid())
        self._process = context.Process(target=process.main, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.part: Part | None = None
        self.is_ready = False

    @property
    def sentinel(self) -> int:
        """What can be waited for: the end of the process."""
        return self._process.sentinel

    def give(self, part: Part | None) -> None:
        """Give it a part; none closes the pipe, which ends it."""
        self.part = part
        with suppress(OSError):  # it has died: seen soon
            if part is None:
                self.pipe.close()
            else:
                self.pipe.send(part)

    def end(self) -> str:
        """Wait for its end and say how it was."""
        self._process.join()
        code = self._process.exitcode or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def stop(self) -> None:
        """Let it note what it was at, and end."""
        self._process.terminate()
        self._process.join(5)
        self._process.kill()
        self._process.join()


def run_local(work: Work, parts: Sequence[Part], workers: int) -> Iterator[Event]:
    """Transcribe parts, and yield `("item", done)` and `("part", entry)`, and now and then `("tick", None)`.

    Raises:
        DragomanError: If workers cannot start, or one says that all items would fail.
    """
    left = deque(parts)
    gpus = visible_gpus() if work.loading["device"] in ("auto", "cuda") else []
    count = min(workers, len(left))
    running: dict[int, _Process] = {}
    failed_starts = 0
    fruitless: dict[int, int] = {}
    try:
        while left or running:
            for place in range(count):
                if place not in running and (left or not running):
                    running[place] = _Process(work, gpus[place % len(gpus)] if gpus else None)
            ready = wait([*(one.pipe for one in running.values()), *(one.sentinel for one in running.values())], 0.5)
            yield "tick", None
            for place, one in list(running.items()):
                if one.pipe in ready:
                    for kind, value in _received(one.pipe):
                        if kind == "error":
                            raise worker_error(*value)
                        if kind == "message":
                            _log.log(*value)
                            continue
                        if kind in ("item", "part"):
                            fruitless.pop(one.part.number if one.part else -1, None)
                            yield kind, value
                        if kind in ("ready", "part"):
                            one.is_ready, failed_starts = True, 0
                            one.give(left.popleft() if left else None)
                        if one.pipe.closed:
                            break
                if one.sentinel in ready or one.pipe.closed:
                    how, part = one.end(), one.part
                    del running[place]
                    if part is not None:
                        left.appendleft(part)
                        fruitless[part.number] = fruitless.get(part.number, 0) + 1
                        _log.warning("A worker %s; another goes on with part %d.", how, part.number)
                        if fruitless[part.number] >= _FRUITLESS:
                            raise DragomanError(
                                f"Part {part.number} does not get on: {_FRUITLESS} workers died one after the other, "
                                f"the last one {how}. Check the memory of the machine; the same command goes on."
                            )
                    elif not one.is_ready:
                        failed_starts += 1
                        if failed_starts >= _STARTS:
                            raise OutOfMemoryError(
                                f"Workers cannot start: the last one {how} while it loaded the model. There may be too "
                                "little memory: use fewer `workers`."
                            )
    finally:
        for one in running.values():
            one.stop()


def _received(pipe: Connection) -> Iterator[Event]:
    """Yield what has arrived."""
    with suppress(EOFError, OSError):
        while not pipe.closed and pipe.poll():
            yield pipe.recv()


def worker_error(message: str, code: int) -> DragomanError:
    """Return the error of a worker, from its message and exit code."""
    error = DragomanError(message)
    error.exit_code = code
    return error


def visible_gpus() -> list[str]:
    """Return the GPUs of NVIDIA that processes may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
