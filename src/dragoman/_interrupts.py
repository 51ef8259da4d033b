"""Ctrl-C while the command starts.

`KeyboardInterrupt` can abort the process if it is raised while a native library initialises, and shows a traceback if
it is raised while Python imports the command. So until the model is loaded, when there is nothing to save, Ctrl-C ends
the process at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _print_message() -> None:
    print("dragoman: error: Interrupted.", file=sys.stderr, flush=True)  # noqa: T201


class _EndAtOnce:
    """A signal handler that reports the interrupt and ends the process."""

    def __init__(self, report: Callable[[], None]) -> None:
        self._report = report

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._report()
        os._exit(INTERRUPTED)


def end_at_once() -> None:
    """Let Ctrl-C end the process from now on; nothing changes if it is ignored, as in a background job."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _EndAtOnce(_print_message))


def report_with(report: Callable[[], None]) -> None:
    """Report an interrupt by `report`, if Ctrl-C still ends the process at once."""
    if isinstance(signal.getsignal(signal.SIGINT), _EndAtOnce):
        signal.signal(signal.SIGINT, _EndAtOnce(report))


def raise_again() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, because there is work to finish or to save."""
    if isinstance(signal.getsignal(signal.SIGINT), _EndAtOnce):
        signal.signal(signal.SIGINT, signal.default_int_handler)
