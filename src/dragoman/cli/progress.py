"""A progress bar, if standard error is a terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich takes a moment to import, and most runs need no bar
    from rich.progress import Progress, TaskID


class Bar:
    """The progress of one recording, if it is shown, and printing to standard output beside it."""

    def __init__(self, shown: "tuple[Progress, TaskID] | None" = None) -> None:
        self._shown = shown

    def update(self, done: float, total: float | None = None, label: str | None = None) -> None:
        """Move the bar to `done` seconds; `None` leaves length and label as they are."""
        if self._shown:
            progress, task = self._shown
            progress.update(task, completed=done, total=total, description=label)

    def print(self, text: str) -> None:
        """Print a result; the bar disappears meanwhile if both are on the same terminal."""
        beside = self._shown is not None and sys.stdout.isatty()
        if self._shown and beside:
            self._shown[0].stop()
        print(text, flush=True)  # noqa: T201
        if self._shown and beside:
            self._shown[0].start()


@contextmanager
def progress_bar(label: str, total: float | None, wanted: bool = True, unit: str = "s") -> Iterator[Bar]:
    """Show how many seconds of audio are transcribed, if standard error is a terminal.

    Args:
        label: Name of the recording.
        total: Its length; `None` if that is not known.
        wanted: False for no bar, as when a program reads the log.
        unit: What is counted, if not seconds.
    """
    if not (wanted and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"):
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}} {unit}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(stderr=True)  # without colours if NO_COLOR is set
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield Bar((progress, progress.add_task(label, total=total)))
