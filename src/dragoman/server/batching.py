"""Dynamic batching: windows of several requests are decoded together, by one thread for each model.

A window waits for others only while it has waited less than the bound and the batch has room; while the model is busy
the queue fills by itself. Only windows with the same prompt and options share a batch, and results do not depend on it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dragoman.server.errors import CancelledRequestError
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.fallback import WindowBatch, Windows, decode_together
from dragoman.transcriber.options import TranscribeOptions

_T = TypeVar("_T")


class Request:
    """A request in progress: whether somebody still waits for it.

    Args:
        seconds: How long it may take; `None` for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cancelled = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self._cancelled.is_set() or (self._end is not None and time.monotonic() > self._end)

    @property
    def remaining(self) -> float | None:
        """Seconds left, at least 0; `None` without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise `CancelledRequestError` if nobody waits any more."""
        if self.is_over:
            raise CancelledRequestError


# The request that the current thread works for.
current_request: ContextVar[Request | None] = ContextVar("current_request", default=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item:
    """Windows of one request, or a function to call."""

    key: object
    rows: int
    run: Callable[[list["_Item"]], list[Any]]
    given: Any = None
    request: Request | None = None
    arrival: float = field(default_factory=time.monotonic)
    result: "Future[Any]" = field(default_factory=Future)


class Batcher:
    """Runs a model for many threads.

    Args:
        engine: The model.
        max_rows: Maximum number of windows decoded together.
        max_delay: Seconds that a window may wait for others.
        observe: Called with the number of windows of each batch.
    """

    def __init__(self, engine: Engine, max_rows: int, max_delay: float, observe: Callable[[int], None]) -> None:
        self._engine, self._max_rows, self._max_delay, self._observe = engine, max_rows, max_delay, observe
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def decode(self, batch: WindowBatch, options: TranscribeOptions, failed: Sequence[Decoded] = ()) -> list[Decoded]:
        """Decode windows, as `dragoman.transcriber.fallback.decode` does, perhaps together with others."""
        windows = Windows(batch, options, failed)
        item = _Item(
            key=windows.key,
            rows=len(batch.waveforms),
            run=lambda items: decode_together(self._engine, [item.given for item in items]),
            given=windows,
            request=current_request.get(),
        )
        found: list[Decoded] = self._wait(item)
        return found

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a function that uses the model in the model's thread."""
        item = _Item(key=object(), rows=1, run=lambda _: [function()], request=current_request.get())
        found: _T = self._wait(item)
        return found

    def close(self) -> None:
        """End the thread, once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _wait(self, item: _Item) -> Any:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()
        return item.result.result()

    def _work(self) -> None:
        while batch := self._next():
            self._run(batch)

    def _next(self) -> list[_Item]:
        """Return the items of the next batch; none if there will be no more."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if not self._items:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                batch = self._candidates()
                rows = sum(item.rows for item in batch)
                remaining = self._items[0].arrival + self._max_delay - time.monotonic()
                if rows >= self._max_rows or remaining <= 0 or self._closed:
                    for item in batch:
                        self._items.remove(item)
                    return batch
                self._changed.wait(remaining)

    def _drop_cancelled(self) -> None:
        for item in [one for one in self._items if one.request is not None and one.request.is_over]:
            self._items.remove(item)
            item.result.set_exception(CancelledRequestError())

    def _candidates(self) -> list[_Item]:
        """Return the oldest item and those that may share its batch."""
        first, rows = self._items[0], 0
        chosen: list[_Item] = []
        for item in self._items:
            if item.key == first.key and (not chosen or rows + item.rows <= self._max_rows):
                chosen.append(item)
                rows += item.rows
        return chosen

    def _run(self, batch: list[_Item]) -> None:
        self._observe(sum(item.rows for item in batch))
        try:
            results = batch[0].run(batch)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].result.set_exception(error)
            else:  # one of them is at fault; the others are not
                for item in batch:
                    self._run([item])
            return
        for item, result in zip(batch, results, strict=True):
            with suppress(Exception):
                item.result.set_result(result)
