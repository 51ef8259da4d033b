"""Windows of several recordings in one batch: threads read and cut recordings, one thread runs the model.

A batch is run when enough windows wait, or when every thread waits: no clock is involved. The oldest window is always
in it, with those whose length is nearest, so that little of the batch is padding. Only windows with the same prompt
and options share a batch, and results do not depend on it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dragoman.audio.waveform import Waveform
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.fallback import WindowBatch, Windows, decode_together
from dragoman.transcriber.options import TranscribeOptions

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    """What a thread waits for: windows to be decoded, or a function to be called."""

    key: object
    rows: int = 1
    length: int = 0
    run: Callable[[list["_Waiting"]], list[Any]]
    given: Any = None
    thread: int = field(default_factory=threading.get_ident)
    result: "Future[Any]" = field(default_factory=Future)


class BatchingEngine(Engine):
    """An engine for the recordings of many threads.

    Args:
        engine: The model.
        max_rows: Maximum number of windows decoded together.
    """

    def __init__(self, engine: Engine, max_rows: int) -> None:
        super().__init__(engine.runner, engine.processor, engine.info)
        self._plain, self._max_rows = engine, max_rows
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._active = 0
        self._error: BaseException | None = None
        self._seconds: dict[int, float] = {}
        self.decode_windows = self._decode_together

    def likeliest(self, waveform: Waveform, prompt: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the candidate token with the highest probability after a prompt."""
        found: int = self._wait(
            _Waiting(key=object(), run=lambda _: [self._plain.likeliest(waveform, prompt, candidates)])
        )
        return found

    def spent(self) -> float:
        """Return the seconds that the model has worked for the current thread, its share of each batch."""
        return self._seconds.get(threading.get_ident(), 0.0)

    def run(self, jobs: Iterable[Callable[[], object]], threads: int) -> None:
        """Run functions that transcribe, each in one of several threads, and the model in this one.

        Raises:
            BaseException: What the first function raised; no further ones are begun then.
        """
        remaining = iter(jobs)
        self._error, self._active = None, threads
        started = [threading.Thread(target=self._work, args=(remaining,), daemon=True) for _ in range(threads)]
        for thread in started:
            thread.start()
        while batch := self._next():
            self._run(batch)
        for thread in started:
            thread.join()
        self._seconds.clear()
        if self._error is not None:
            raise self._error

    def _work(self, jobs: Iterator[Callable[[], object]]) -> None:
        try:
            while self._error is None:
                with self._changed:
                    job = next(jobs, None)
                if job is None:
                    return
                job()
        except BaseException as error:
            self._error = self._error or error
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _decode_together(
        self, batch: WindowBatch, options: TranscribeOptions, failed: Sequence[Decoded] = ()
    ) -> list[Decoded]:
        """Decode windows, as `dragoman.transcriber.fallback.decode` does, perhaps together with others."""
        windows = Windows(batch, options, failed)
        decoded: list[Decoded] = self._wait(
            _Waiting(
                key=windows.key,
                rows=len(batch.waveforms),
                length=max(map(len, batch.waveforms)),
                run=lambda items: decode_together(self._plain, [item.given for item in items]),
                given=windows,
            )
        )
        return decoded

    def _wait(self, item: _Waiting) -> Any:
        with self._changed:
            self._waiting.append(item)
            self._changed.notify_all()
        return item.result.result()

    def _next(self) -> list[_Waiting]:
        """Return what to run next; nothing if there will be no more."""
        with self._changed:
            while True:
                batch = self._candidates()
                if batch and (sum(item.rows for item in batch) >= self._max_rows or len(self._waiting) >= self._active):
                    self._waiting = [item for item in self._waiting if item not in batch]
                    return batch
                if not self._active:
                    return []
                self._changed.wait()

    def _candidates(self) -> list[_Waiting]:
        """Return the oldest item, and of those that may share its batch the nearest in length."""
        if not self._waiting:
            return []
        first = self._waiting[0]
        chosen, rows = [first], first.rows
        others = [item for item in self._waiting[1:] if item.key == first.key]
        for item in sorted(others, key=lambda one: abs(one.length - first.length)):
            if rows + item.rows <= self._max_rows:
                chosen.append(item)
                rows += item.rows
        return chosen

    def _run(self, batch: list[_Waiting]) -> None:
        begin = time.perf_counter()
        try:
            results = batch[0].run(batch)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].result.set_exception(error)
            else:  # one of them is at fault; the others are not
                for item in batch:
                    self._run([item])
            return
        seconds, rows = time.perf_counter() - begin, sum(item.rows for item in batch)
        for item, result in zip(batch, results, strict=True):
            self._seconds[item.thread] = self._seconds.get(item.thread, 0.0) + seconds * item.rows / rows
            with suppress(Exception):
                item.result.set_result(result)
