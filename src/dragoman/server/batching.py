"""Dynamic batching: windows of several requests are decoded together, by one thread for each model.

A window waits for others only while it has waited less than the bound and the batch has room; while the model is busy
the queue fills by itself. The oldest window is always in the next batch.
"""

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from dragoman.server.errors import CancelledRequestError
from dragoman.transcriber.batches import Work, of_one_batch, run_batch


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


@dataclass(frozen=True, kw_only=True)
class _Item:
    """Work of a request."""

    work: Work
    request: Request | None
    arrival: float = field(default_factory=time.monotonic)


class Batcher:
    """Runs a model for many threads, in a thread of its own.

    Args:
        max_rows: Maximum number of windows decoded together.
        max_delay: Seconds that a window may wait for others.
        observe: Called with the number of windows of each batch.
    """

    def __init__(self, max_rows: int, max_delay: float, observe: Callable[[int], None]) -> None:
        self._max_rows, self._max_delay, self._observe = max_rows, max_delay, observe
        self._items: list[_Item] = []  # the oldest first
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def wait(self, work: Work) -> Any:
        """Queue work of the current request for the model, and wait for its result.

        Raises:
            CancelledRequestError: If nobody waits for the request any more.
        """
        with self._changed:
            self._items.append(_Item(work=work, request=current_request.get()))
            self._changed.notify_all()
        return work.result.result()

    def close(self) -> None:
        """End the thread, once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._observe(sum(work.rows for work in batch))
            run_batch(batch)

    def _next(self) -> list[Work]:
        """Return the next batch; nothing if there will be no more."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if not self._items:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                batch = of_one_batch((item.work for item in self._items), self._max_rows)
                remaining = self._items[0].arrival + self._max_delay - time.monotonic()
                if sum(work.rows for work in batch) >= self._max_rows or remaining <= 0 or self._closed:
                    self._items = [item for item in self._items if item.work not in batch]
                    return batch
                self._changed.wait(remaining)

    def _drop_cancelled(self) -> None:
        for item in [one for one in self._items if one.request is not None and one.request.is_over]:
            self._items.remove(item)
            item.work.result.set_exception(CancelledRequestError())
