"""Several recordings at once: the windows of all of them are decoded together.

Each recording that is in progress has a thread, which reads it, finds its speech and waits for its windows to be
decoded. The model runs in the thread of the caller, on windows of similar length, as many as fit into a batch, so that
the next ones are read meanwhile. The number of recordings in progress is bounded, and so is memory.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from dragoman.audio.waveform import Waveform
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.fallback import WindowBatch, Windows, decode_together
from dragoman.transcriber.options import TranscribeOptions

Source = TypeVar("Source")
Result = TypeVar("Result")

_PER_BATCH, _MOST_THREADS = 2, 64  # recordings in progress for each window of a batch: one decoded, one read


class _ClosedError(Exception):
    """Nobody waits for the results any more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """Windows of one recording, or something else that needs the model."""

    key: object
    run: Callable[[Sequence["_Work"]], list[Any]]
    given: Any = None
    rows: int = 1
    length: int = 0
    last: bool = False
    result: "Future[Any]" = field(default_factory=Future)


class _SharedEngine(Engine):
    """The engine of all threads; what needs the model waits for its thread."""

    def __init__(self, engine: Engine, wait: Callable[[_Work], Any]) -> None:
        super().__init__(engine.runner, engine.processor, engine.info)
        self._wait = wait
        self.short_windows = engine.short_windows  # what it keeps
        self.decode_windows = self._decode_windows

    def likeliest(self, waveform: Waveform, prompt: Sequence[int], candidates: Sequence[int]) -> int:
        find = super().likeliest
        found: int = self._wait(_Work(key=object(), run=lambda _: [find(waveform, prompt, candidates)]))
        return found

    def _decode_windows(
        self, batch: WindowBatch, options: TranscribeOptions, failed: Sequence[Decoded] = ()
    ) -> list[Decoded]:
        windows = Windows(batch, options, failed)
        work = _Work(
            key=windows.key,
            run=lambda several: decode_together(self, [work.given for work in several]),
            given=windows,
            rows=len(batch.waveforms),
            length=max(map(len, batch.waveforms)),
            last=bool(failed),
        )
        found: list[Decoded] = self._wait(work)
        return found


def each_of(
    engine: Engine,
    recordings: Iterable[Source],
    transcribe: Callable[[Engine, Source], Result],
    batch_size: int,
) -> Iterator[Result | Exception]:
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
                shared.run_model(batch)
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
        self._engine = _SharedEngine(engine, self._wait)
        self._recordings, self._transcribe, self._batch_size = iter(recordings), transcribe, batch_size
        self._most = min(_PER_BATCH * batch_size, _MOST_THREADS)
        self._changed = threading.Condition()
        self._waiting: list[_Work] = []
        self._done: dict[int, _Result] = {}
        self._taken = self._given = 0  # recordings taken, results returned
        self._taking = self._is_over = False  # a thread takes a recording; there are no more to take
        self._abandoned = False  # nobody waits for results any more
        self._threads = self._busy = self._most  # those alive, and those of them that wait for nothing
        for _ in range(self._most):
            threading.Thread(target=self._work, name="recording", daemon=True).start()

    def next_result_or_batch(self) -> _Result | list[_Work] | None:
        """Wait for the next result, or for work for the model; `None` if there will be no more."""
        with self._changed:
            self._changed.wait_for(self._can_go_on)
            if self._given in self._done:
                self._given += 1
                self._changed.notify_all()
                return self._done.pop(self._given - 1)
            return self._next_batch() or None

    def run_model(self, batch: Sequence[_Work]) -> None:
        """Run the model for a batch; if that fails, for each of it alone: one is at fault, the others are not."""
        try:
            results = batch[0].run(batch)
        except Exception as error:
            failure = error
            if len(batch) == 1:
                self._release(batch, lambda work: work.result.set_exception(failure))
                return
            for work in batch:
                self.run_model([work])
        except BaseException:
            self._release(batch, lambda work: work.result.set_exception(_ClosedError()))
            raise
        else:
            found = iter(results)
            self._release(batch, lambda work: work.result.set_result(next(found)))

    def stop(self) -> None:
        """Abandon what is in progress."""
        with self._changed:
            self._is_over = self._abandoned = True
            abandoned, self._waiting = self._waiting, []
            self._changed.notify_all()
        self._release(abandoned, lambda work: work.result.set_exception(_ClosedError()))

    def _can_go_on(self) -> bool:
        """Return whether there is a result, a full batch, all that there will be for now, or nothing left."""
        if self._given in self._done or not self._threads:
            return True
        counts: Counter[object] = Counter()
        for work in self._waiting:
            counts[work.key] += work.rows
        full = max(counts.values(), default=0) >= self._batch_size
        return full or bool(self._waiting and not self._busy)

    def _next_batch(self) -> list[_Work]:
        """Take work that may share a batch: the oldest that fills one, else the oldest; then what is nearest in length.

        What failed before comes last, so that more of it is decoded together.
        """
        groups: dict[object, list[_Work]] = {}
        for work in sorted(self._waiting, key=lambda work: work.last):
            groups.setdefault(work.key, []).append(work)
        full = (some for some in groups.values() if sum(work.rows for work in some) >= self._batch_size)
        alike = next(full, next(iter(groups.values()), []))
        batch, rows = alike[:1], sum(work.rows for work in alike[:1])
        for work in sorted(alike[1:], key=lambda work: abs(work.length - batch[0].length)):
            if rows + work.rows <= self._batch_size:
                batch.append(work)
                rows += work.rows
        self._waiting = [work for work in self._waiting if work not in batch]
        return batch

    def _release(self, batch: Sequence[_Work], tell: Callable[[_Work], None]) -> None:
        with self._changed:
            self._busy += len(batch)  # before they know, so that nobody takes them for waiting
        for work in batch:
            tell(work)

    def _wait(self, work: _Work) -> Any:
        """Queue work for the thread of the model and wait for its result."""
        with self._changed:
            if self._abandoned:
                raise _ClosedError
            self._busy -= 1
            self._waiting.append(work)
            self._changed.notify_all()
        return work.result.result()

    def _work(self) -> None:
        """Transcribe one recording after the other."""
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
