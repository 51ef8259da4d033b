"""What several threads want from a model: what of it shares a batch, and how a batch is run.

Each recording has a thread, and the model has one, for which the others wait. Only windows with the same prompt and
options share a batch, and results do not depend on it.

Not here: when a batch is run (`many`, `dragoman.server.batching`).
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from dragoman.audio.waveform import Waveform
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.fallback import WindowBatch, Windows, decode_together
from dragoman.transcriber.options import TranscribeOptions


class ClosedError(BaseException):
    """The model is run no more. No `Exception`: it is no fault of a recording."""


@dataclass(kw_only=True, eq=False)
class Work:
    """Windows of one recording, or something else that needs the model.

    Attributes:
        key: What all of a batch has in common.
        run: Does the work of a batch, and returns the result of each.
        windows: What is decoded, if it is that.
        result: What its thread waits for.
        seconds: Its share of the time that the model took.
    """

    key: object
    run: Callable[[Sequence["Work"]], list[Any]]
    windows: Windows | None = None
    result: "Future[Any]" = field(default_factory=Future)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Number of windows."""
        return 1 if self.windows is None else len(self.windows.batch.waveforms)

    @property
    def length(self) -> int:
        """Samples of the longest window."""
        return 0 if self.windows is None else max(map(len, self.windows.batch.waveforms))

    @property
    def is_repeated(self) -> bool:
        """Whether the guards refused what a search has found."""
        return self.windows is not None and bool(self.windows.failed)


class SharedEngine(Engine):
    """The engine of all threads; what needs the model waits for its thread.

    Args:
        engine: The model.
        wait: Hands work over to the thread of the model and returns its result.
    """

    def __init__(self, engine: Engine, wait: Callable[[Work], Any]) -> None:
        super().__init__(engine.runner, engine.processor, engine.info)
        self._hand_over, self._spent = wait, threading.local()
        self.short_windows, self.language_model = engine.short_windows, engine.language_model  # what it keeps
        self.decode_windows = self._decode_windows

    def clock(self) -> float:
        """Return the seconds that the model has worked for the current thread."""
        return float(getattr(self._spent, "seconds", 0.0))

    def likeliest(self, waveform: Waveform, prompt: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the candidate token with the highest probability after a prompt."""
        find = super().likeliest
        found: int = self._wait(Work(key=object(), run=lambda _: [find(waveform, prompt, candidates)]))
        return found

    def _decode_windows(
        self, batch: WindowBatch, options: TranscribeOptions, failed: Sequence[Decoded] = ()
    ) -> list[Decoded]:
        windows = Windows(batch, options, failed)
        found: list[Decoded] = self._wait(Work(key=windows.key, run=self._decode_together, windows=windows))
        return found

    def _decode_together(self, several: Sequence[Work]) -> list[list[Decoded]]:
        return decode_together(self, [work.windows for work in several if work.windows is not None])

    def _wait(self, work: Work) -> Any:
        found = self._hand_over(work)
        self._spent.seconds = self.clock() + work.seconds
        return found


def of_one_batch(works: Iterable[Work], max_rows: int) -> list[Work]:
    """Return the first, and of those that may share its batch the nearest in length: little of it is padding then."""
    first, *others = works
    chosen, rows = [first], first.rows
    for work in sorted((one for one in others if one.key == first.key), key=lambda one: abs(one.length - first.length)):
        if rows + work.rows <= max_rows:
            chosen.append(work)
            rows += work.rows
    return chosen


def run_batch(batch: Sequence[Work], release: Callable[[Work], object] = lambda work: None) -> None:
    """Run the model for a batch; if that fails, for each of it alone: one is at fault, the others are not.

    Args:
        batch: The work.
        release: Called for each before its thread goes on.
    """
    begin = time.perf_counter()
    try:
        results = batch[0].run(batch)
    except Exception as error:
        if len(batch) == 1:
            finish(batch[0], release, error)
        else:
            for work in batch:
                run_batch([work], release)
    except BaseException:
        for work in batch:
            finish(work, release, ClosedError())
        raise
    else:
        per_row = (time.perf_counter() - begin) / sum(work.rows for work in batch)
        for work, result in zip(batch, results, strict=True):
            work.seconds = per_row * work.rows
            finish(work, release, result)


def finish(work: Work, release: Callable[[Work], object], result: object) -> None:
    """Let the thread of some work go on, with its result, or an exception."""
    release(work)
    if isinstance(result, BaseException):
        work.result.set_exception(result)
    else:
        work.result.set_result(result)
