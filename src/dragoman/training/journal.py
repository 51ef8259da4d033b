"""The log of a run: a line of JSON a step in `log.jsonl`, and whoever else wants to see the figures."""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError

NAME = "log.jsonl"

Listener = Callable[[dict[str, Any]], None]
"""Gets every record: `{"step": 1, "total": 100, "loss": …}` and `{"step": 50, "eval_loss": …}`."""


class Journal:
    """Writes the log; without a folder, only tells the listener.

    Args:
        folder: Of the run; `None` for processes that do not write.
        listener: Gets every record.
    """

    def __init__(self, folder: Path | None, listener: Listener | None = None) -> None:
        self._path = None if folder is None else folder / NAME
        self._listener, self._total = listener, 0

    def begin(self, step: int, total: int) -> None:
        """Begin after a step: lines of later steps, which will be written again, are removed.

        Raises:
            DragomanError: If the log cannot be written.
        """
        self._total = total
        if self._path is None:
            return
        kept = []
        if step and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                if _step_of(line) <= step:
                    kept.append(line + "\n")
        self._write("".join(kept), "w")

    def step(self, step: int, figures: Mapping[str, Any], every: int) -> None:
        """Note a step; only one in `every` is written."""
        record = {"step": step, **figures}
        if step % every == 0:
            self._append(record)
        self._tell({**record, "total": self._total})

    def evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Note an evaluation."""
        record = {"step": step, **{f"eval_{name}": value for name, value in figures.items()}}
        self._append(record)
        self._tell({**record, "total": self._total})

    def _tell(self, record: dict[str, Any]) -> None:
        if self._listener is not None:
            self._listener(record)

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._path is not None:
            numbers = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
            self._write(json.dumps({**numbers, "time": round(time.time(), 3)}) + "\n", "a")

    def _write(self, text: str, mode: str) -> None:
        assert self._path is not None
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise DragomanError(
                f"{self._path} cannot be written ({error.strerror}). Free some space or choose another folder."
            ) from error


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for half a line, which a killed process left."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
