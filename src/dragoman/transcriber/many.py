"""Several recordings at once: the windows of all of them are decoded together.

Each recording that is in progress has a thread, which reads it, finds its speech and waits for its windows to be
decoded. The model runs in the thread of the caller, on windows of similar length, as many as fit into a batch, so that
the next ones are read meanwhile. The number of recordings in progress is bounded, and so is memory.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from dragoman.transcriber.batches import ClosedError, SharedEngine, Work, finish, of_one_batch, run_batch
from dragoman.transcriber.engine import Engine

Source = TypeVar("Source")
Result = TypeVar("Result")

_PER_BATCH, _MOST_THREADS = 2, 64  # recordings in progress for each window of a batch: one decoded, one read


def each_of(
    engine: Engine,
    recordings: Iterable[Source],
    transcribe: Callable[[Engine, Source], Result],
    batch_size: int,
) -> Generator[Result | Exception]:
    """Yield the results of a function of several recordings, in their order; an exception where it raised one.

    Args:
        engine: The model.
        recordings: May be endless: they are taken as room becomes free.
        transcribe: Called with an engine and a recording, in a thread of its own.
        batch_size: Maximum number of windows decoded together.
    """
    shared = _Together(engine, recordings, transcribe, batch_size)
    try:
        while (batch := shared.next_result_or_batch()) is not None:
            if isinstance(batch, _Result):
                yield batch.value
            else:
                run_batch(batch, shared.release)
    finally:  # also if the caller wants no more
        shared.stop()
    if shared.failure is not None:
        raise shared.failure


@dataclass(frozen=True)
class _Result:
    value: Any


class _Together:
    """Recordings in progress; see `each_of`. All fields are changed under one lock."""

    def __init__(
        self, engine: Engine, recordings: Iterable[Any], transcribe: Callable[[Engine, Any], Any], batch_size: int
    ) -> None:
        self.failure: Exception | None = None  # of the iterable
        self._engine = SharedEngine(engine, self._wait)
        self._recordings, self._transcribe, self._batch_size = iter(recordings), transcribe, batch_size
        self._most = min(_PER_BATCH * batch_size, _MOST_THREADS)
        self._changed = threading.Condition()
        self._waiting: list[Work] = []
        self._done: dict[int, _Result] = {}
        self._taken = self._given = 0  # recordings taken, results returned
        self._taking = self._is_over = False  # a thread takes a recording; there are no more to take
        self._abandoned = False  # nobody waits for results any more
        self._threads = self._busy = self._most  # those alive, and those of them that wait for nothing
        for _ in range(self._most):
            threading.Thread(target=self._work, name="recording", daemon=True).start()

    def next_result_or_batch(self) -> _Result | list[Work] | None:
        """Wait for the next result, or for work for the model; `None` if there will be no more."""
        with self._changed:
            self._changed.wait_for(self._can_go_on)
            if self._given in self._done:
                self._given += 1
                self._changed.notify_all()
                return self._done.pop(self._given - 1)
            return self._next_batch() or None

    def release(self, work: Work) -> None:
        """Note that the thread of some work is about to go on."""
        with self._changed:
            self._busy += 1  # before it knows, so that nobody takes it for waiting

    def stop(self) -> None:
        """Abandon what is in progress."""
        with self._changed:
            self._is_over = self._abandoned = True
            abandoned, self._waiting = self._waiting, []
            self._changed.notify_all()
        for work in abandoned:
            finish(work, self.release, ClosedError())

    def _can_go_on(self) -> bool:
        """Return whether there is a result, a full batch, all that there will be for now, or nothing left."""
        if self._given in self._done or not self._threads:
            return True
        counts: Counter[object] = Counter()
        for work in self._waiting:
            counts[work.key] += work.rows
        full = max(counts.values(), default=0) >= self._batch_size
        return full or bool(self._waiting and not self._busy)

    def _next_batch(self) -> list[Work]:
        """Take work that may share a batch: the oldest that fills one, else the oldest; then what is nearest in length.

        What failed before comes last, so that more of it is decoded together.
        """
        groups: dict[object, list[Work]] = {}
        for work in sorted(self._waiting, key=lambda work: work.is_repeated):
            groups.setdefault(work.key, []).append(work)
        if not groups:
            return []
        full = (some for some in groups.values() if sum(work.rows for work in some) >= self._batch_size)
        batch = of_one_batch(next(full, next(iter(groups.values()))), self._batch_size)
        self._waiting = [work for work in self._waiting if work not in batch]
        return batch

    def _wait(self, work: Work) -> Any:
        """Queue work for the thread of the model and wait for its result."""
        with self._changed:
            if self._abandoned:
                raise ClosedError
            self._busy -= 1
            self._waiting.append(work)
            self._changed.notify_all()
        return work.result.result()

    def _work(self) -> None:
        """Transcribe one recording after the other."""
        try:
            while (taken := self._take()) is not None:
                number, recording = taken
                try:
                    result = _Result(self._transcribe(self._engine, recording))
                except Exception as error:
                    result = _Result(error)
                del recording, taken
                with self._changed:
                    self._done[number] = result
                    self._changed.notify_all()
        except ClosedError:
            return
        finally:
            with self._changed:
                self._busy -= 1
                self._threads -= 1
                self._changed.notify_all()

    def _take(self) -> tuple[int, Any] | None:
        """Return the next recording and its number; wait while too many results wait for their turn."""
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()
            self._changed.wait_for(self._may_take)
            self._busy += 1
            if self._is_over:
                return None
            self._taking = True
        failure: Exception | None = None
        found: list[Any] = []
        try:
            found = list(islice(self._recordings, 1))
        except Exception as error:
            failure = error
        with self._changed:
            self._taking = False
            self.failure = failure
            self._is_over = self._is_over or not found
            self._taken += len(found)
            self._changed.notify_all()
            return (self._taken - 1, found[0]) if found else None

    def _may_take(self) -> bool:
        return self._is_over or (not self._taking and self._taken < self._given + self._most)
