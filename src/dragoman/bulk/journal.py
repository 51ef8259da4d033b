"""What is done of a part in progress, so that a part whose worker was killed goes on where it was.

Each worker that takes up a part writes a file of its own and reads those of all before it. An item is noted when it is
begun, too: one that workers keep dying of is given up.
"""

import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.bulk.rows import Row, line_of, lines_of
from dragoman.bulk.store import writing

_DEATHS, _DEATHS_ALONE = 5, 4  # of workers during an item, after which it is given up; with others at work or not


@dataclass(kw_only=True)
class Noted:
    """What earlier workers noted.

    Attributes:
        rows: Finished rows by id, with the version of the file.
        begun: How often a worker died during an item, by id.
        alone: How often it did nothing else then.
    """

    rows: dict[str, tuple[str | None, Row]] = field(default_factory=dict)
    begun: "Counter[str]" = field(default_factory=Counter)
    alone: "Counter[str]" = field(default_factory=Counter)

    def is_deadly(self, name: str) -> bool:
        """Return whether an item is to be given up."""
        return self.begun[name] >= _DEATHS and self.alone[name] >= _DEATHS_ALONE


class Journal:
    """The journal of one worker for one part, for several threads.

    Args:
        folder: Where journals are.
        part: Number of the part.

    Raises:
        DragomanError: From every method, if it cannot be written.
    """

    def __init__(self, folder: Path, part: int) -> None:
        self._folder, self._start = folder, f"{part:06}."
        self._path = folder / f"{self._start}{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self._lock = threading.RLock()  # `leave` may interrupt the thread that writes
        self._open: dict[str, bool] = {}
        with writing(self._path):
            self._file = self._path.open("xb", buffering=0)

    def earlier(self) -> Noted:
        """Return what earlier workers noted."""
        found = Noted()
        for path in self._files():
            open_items: dict[str, bool] = {}
            for line in lines_of(path.read_bytes()) if path != self._path else ():
                if "begin" in line:
                    open_items[line["begin"]] = line["alone"]
                elif "left" in line:
                    open_items.pop(line["left"], None)
                else:
                    found.rows[line["row"]["id"]] = line["version"], line["row"]
                    open_items.pop(line["row"]["id"], None)
            found.begun.update(open_items.keys())
            found.alone.update(name for name, alone in open_items.items() if alone)
        return found

    def begin(self, name: str, alone: bool) -> None:
        """Note that an item is begun."""
        with self._lock:
            self._open[name] = alone
            self._write({"begin": name, "alone": alone})

    def add(self, row: Row, version: str | None) -> None:
        """Note a result."""
        with self._lock:
            self._write({"row": row, "version": version})
            self._open.pop(row["id"], None)

    def leave(self) -> None:
        """Note that the worker ends in good order, and not of the items that it had begun."""
        with self._lock:
            for name in self._open:
                self._write({"left": name})

    def _write(self, values: dict[str, Any]) -> None:
        with writing(self._path):
            content = line_of(values)
            if self._file.write(content) != len(content):
                raise OSError("the disk is full")

    def close(self, *, done: bool) -> None:
        """Close the file; if the part is done, remove all its journals."""
        self._file.close()
        for path in self._files() if done else ():
            with writing(path):
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._start}*.jsonl"))


def count_rows(folder: Path, parts: Iterable[int]) -> int:
    """Return how many items of parts in progress are done."""
    wanted, ids = {f"{part:06}" for part in parts}, set()
    for path in folder.glob("*.jsonl"):
        if path.name.partition(".")[0] in wanted:
            ids |= {(path.name[:6], line["row"]["id"]) for line in lines_of(path.read_bytes()) if "row" in line}
    return len(ids)
