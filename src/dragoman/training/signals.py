"""Signals that ask a run to save and stop: SIGTERM, SIGINT (Ctrl-C) and SIGUSR1, as job schedulers send them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")


class StopRequest:
    """Whether a signal has asked to stop.

    Attributes:
        number: The signal; 0 before there is one.
    """

    def __init__(self) -> None:
        self.number = 0

    def receive(self, number: int, _: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C interrupts at once."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note signals in the `with` block instead of ending the program."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # Python lets only the main thread handle signals
        yield request
        return
    known = [getattr(signal, name) for name in _NAMES if name in signal.__dict__]
    before = {number: signal.signal(number, request.receive) for number in known}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
