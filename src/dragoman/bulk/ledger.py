"""What an output says of itself: the manifest of finished parts, the runs, and the failures."""

import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from dragoman.bulk.plan import Part
from dragoman.bulk.rows import Row, decoded, line_of, lines_of
from dragoman.bulk.settings import BulkOptions, Format
from dragoman.bulk.store import STATE, Store

_EVERY = 5.0  # seconds between two versions of the files of a run
_SILENT = 60.0  # seconds without a new version after which a run counts as killed
_SHARE = 0.05  # of the time that writing them may take


class Done(NamedTuple):
    """What a worker tells of an item at once.

    Attributes:
        id: Of the item.
        audio: Seconds of audio that were transcribed.
        error: Why there is no text, if so.
        is_new: Whether it was done now, and not read in a journal.
    """

    id: str
    audio: float
    error: str | None
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished part.

    Attributes:
        part: Its number.
        file: Its name.
        items: Number of its rows.
        failures: Id and reason of those without a text.
        audio: Seconds of audio that were transcribed.
        seconds: How long a worker took; 0 if that is not known.
        bytes: Size of the file.
        sha256: Of the file, in hexadecimal digits.
    """

    part: int
    file: str
    items: int
    failures: tuple[tuple[str, str], ...]
    audio: float
    seconds: float
    bytes: int
    sha256: str


def entry_of(part: int, name: str, content: bytes, form: Format, seconds: float = 0.0) -> Entry:
    """Return the entry of a file."""
    rows = decoded(content, form)
    return Entry(
        part=part,
        file=name,
        items=len(rows),
        failures=tuple((row["id"], row["error"]) for row in rows if row["error"] is not None),
        audio=round(sum(seconds_of(row) for row in rows), 3),
        seconds=round(seconds, 3),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def seconds_of(row: Row) -> float:
    """Return the seconds of audio of a row that has a text."""
    return float(row["duration"] or 0.0) if row["error"] is None else 0.0


def read_entries(store: Store, parts: Iterable[Part], form: Format) -> dict[int, Entry]:
    """Return the finished ones of these parts, by number; the file of a part alone says that it is."""
    noted: dict[int, Entry] = {}
    files = store.names()
    for name in files:
        if name.startswith("finished"):
            for line in lines_of(store.read(name) or b""):
                failures = tuple((one, reason) for one, reason in line["failures"])
                noted[line["part"]] = Entry(**{**line, "failures": failures})
    found = {}
    there = set(files)
    for part in parts:
        name = part.name(form)
        if name in there:
            entry = noted.get(part.number)
            if entry is None or entry.items != len(part.items):
                content = store.read(name)
                entry = None if content is None else entry_of(part.number, name, content, form)
            if entry is not None:
                found[part.number] = entry
    return found


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the command, over or not.

    Attributes:
        name: Unique.
        started: Seconds since 1970.
        seen: When it last wrote this.
        workers: Number of its workers.
        machines: Number of its machines.
        audio: Seconds of audio that it transcribed.
        items: Number of items that it finished, failed ones included.
        failed: Number of those that failed.
        ended: Whether it is over, in good order.
        pid: Number of its process.
        host: Name of its machine.
    """

    name: str = field(default_factory=lambda: f"{time.time():.0f}-{secrets.token_hex(4)}")
    started: float = field(default_factory=time.time)
    seen: float = field(default_factory=time.time)
    workers: int = 1
    machines: int = 1
    audio: float = 0.0
    items: int = 0
    failed: int = 0
    ended: bool = False
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)

    @property
    def is_alive(self) -> bool:
        """Whether it is going on, as far as its file tells."""
        return not self.ended and time.time() - self.seen < _SILENT

    @property
    def hours(self) -> float:
        """Hours of machines."""
        return (self.seen - self.started) * self.machines / 3600


def read_runs(store: Store) -> list[Run]:
    """Return all runs, the earliest first."""
    found = []
    for name in store.names(f"{STATE}/runs"):
        with suppress(ValueError, TypeError):
            found.append(Run(**json.loads(store.read(f"{STATE}/runs/{name}") or b"")))
    return sorted(found, key=lambda run: run.started)


class Ledger:
    """The files of one run, written anew now and then, each whole.

    Args:
        store: The output.
        parts: The parts of this run.
        options: Of the run.
    """

    def __init__(self, store: Store, parts: Sequence[Part], options: BulkOptions) -> None:
        self._store, self._form = store, options.output_format
        turn, runs = options.turn
        self._ending = "" if options.shard is None else f"-{turn:05}-of-{runs:05}"
        self.entries = read_entries(store, parts, options.output_format)
        self.run = Run()
        self._next = 0.0
        self._save(self.entries)

    def add(self, entry: Entry) -> None:
        """Note a finished part."""
        self.entries[entry.part] = entry
        self.note()

    def count(self, done: Done) -> None:
        """Note an item that this run has finished."""
        run, failed = self.run, done.error is not None
        self.run = replace(run, items=run.items + 1, failed=run.failed + failed, audio=run.audio + done.audio)

    def note(self, *, last: bool = False) -> None:
        """Write the files, if it is time."""
        if time.monotonic() < self._next and not last:
            return
        begin = time.monotonic()
        self.run = replace(self.run, seen=time.time(), ended=last)
        self._save(self.entries)
        self._next = time.monotonic() + max(_EVERY, (time.monotonic() - begin) / _SHARE)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Id and reason of the items that failed, in finished parts."""
        return [one for _, entry in sorted(self.entries.items()) for one in entry.failures]

    def _save(self, entries: dict[int, Entry]) -> None:
        finished = b"".join(line_of(asdict(entry)) for _, entry in sorted(entries.items()))
        self._store.write(f"finished{self._ending}.jsonl", finished)
        failures = b"".join(line_of({"id": name, "error": reason}) for name, reason in self.failures)
        self._store.write(f"failures{self._ending}.jsonl", failures)
        self._store.write(f"{STATE}/runs/{self.run.name}.json", json.dumps(asdict(self.run)).encode())


def facts(plan: dict[int, Part], entries: dict[int, Entry], runs: Sequence[Run]) -> dict[str, Any]:
    """Return the figures of an output: items, hours of audio, hours of machines."""
    audio = sum(entry.audio for entry in entries.values())
    hours, transcribed = sum(run.hours for run in runs), sum(run.audio for run in runs)
    return {
        "items": sum(len(part.items) for part in plan.values()),
        "parts": len(plan),
        "finished_parts": len(entries),
        "done": sum(entry.items for entry in entries.values()),
        "failed": sum(len(entry.failures) for entry in entries.values()),
        "audio_hours": audio / 3600,
        "machine_hours": hours,
        "real_time_factor": hours * 3600 / transcribed if transcribed else None,
    }
