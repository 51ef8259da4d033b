"""Transcribing a part: each item once, its result noted at once, and the file written when all are done."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.audio import SAMPLING_RATE
from dragoman.bulk.items import Item
from dragoman.bulk.journal import Journal, Noted
from dragoman.bulk.ledger import Done, Entry, entry_of, seconds_of
from dragoman.bulk.plan import Part
from dragoman.bulk.remote import fetched, is_remote
from dragoman.bulk.rows import Row, decoded, encoded, row_of, with_transcript
from dragoman.bulk.settings import Work
from dragoman.bulk.store import open_store
from dragoman.data.audio import load_audio, source_of
from dragoman.data.utterance import Utterance
from dragoman.errors import AudioError, ConfigError, DragomanError, MissingDependencyError
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.layout import Layout
from dragoman.transcriber.loading import load_engine, runner_class
from dragoman.transcriber.many import each_of
from dragoman.transcriber.result import Transcript
from dragoman.transcriber.scorers import scorers_for
from dragoman.transcriber.segment_stream import SegmentStream
from dragoman.transcriber.writers import formats_of, render

_MAX_NAME = 200  # bytes of a part of a file's name


class Worker:
    """A model, and what it does for an output.

    Args:
        work: What is wanted.

    Raises:
        DragomanError: If the model cannot be loaded, or the output not be written.
    """

    def __init__(self, work: Work) -> None:
        self._work, self._store = work, open_store(work.output)
        if work.threads is not None:
            runner_class(work.loading["backend"]).set_threads(work.threads)
        self._engine = engine = load_engine(work.model, None, **work.loading)
        cues = work.subtitles is not None and not {"srt", "vtt"}.isdisjoint(formats_of(work.subtitles))
        words = work.options.word_timestamps or (cues and engine.facts.has_cross_attention)  # cues end with words
        self._options = replace(work.options, word_timestamps=words)
        scorers_for(self._engine, work.options)  # a language model is loaded once, and not by each thread
        self._journal: Journal | None = None

    def leave(self) -> None:
        """Note that what is in progress ends in good order."""
        if self._journal is not None:
            self._journal.leave()

    def run(self, part: Part, tell: Callable[[Done], object] = lambda done: None) -> Entry:
        """Transcribe what is left of a part and write its file.

        Args:
            part: The part.
            tell: Called for each item.

        Returns:
            Its line in the manifest of finished parts.

        Raises:
            DragomanError: If nothing can be written, or every other part would fail too.
        """
        begin = time.perf_counter()
        name = part.name(self._work.format)
        content = self._store.read(name)
        if content is None:
            self._journal = journal = Journal(self._store.journals, part.number)
            try:
                noted = journal.earlier()
                rows = self._rows(part, noted, journal, tell)
                content = encoded([rows[item.id] for item in part.items], self._work.format)
                self._store.write(name, content)
            except BaseException:
                journal.close(done=False)
                raise
            journal.close(done=True)
            self._store.remove(part.redone)
        return entry_of(part.number, name, content, self._work.format, time.perf_counter() - begin)

    def _rows(self, part: Part, noted: Noted, journal: Journal, tell: Callable[[Done], object]) -> dict[str, Row]:
        """Return the row of each item, by id."""
        old = self._store.read(part.redone)
        before = {} if old is None else {row["id"]: row for row in decoded(old, self._work.format)}
        rows: dict[str, Row] = {}

        def finish(item: Item, row: Row, is_new: bool = True) -> None:
            rows[item.id] = row
            if is_new:
                journal.add(row, item.version)
            tell(Done(item.id, seconds_of(row), row["error"], is_new))

        together: list[Item] = []
        alone: list[Item] = []
        for item in part.items:
            version, row = noted.rows.get(item.id, (None, None))
            if row is not None and version == item.version and self._is_kept(row):
                finish(item, row, is_new=False)
            elif item.problem is not None:
                finish(item, row_of(item, self._work))
            elif noted.is_deadly(item.id):
                finish(item, self._failed(item, _gave_up(noted.begun[item.id])))
            else:
                (alone if noted.begun[item.id] else together).append(item)

        def do(engine: Engine, item: Item) -> None:
            journal.begin(item.id, alone=engine is self._engine)
            finish(item, self._row(engine, item, before.get(item.id)))

        together.sort(key=lambda item: item.length)
        with closing(each_of(self._engine, together, do, self._work.options.batch_size)) as outcomes:
            for failure in outcomes:
                if failure is not None:
                    raise failure
        # in turn, or workers killed by chance would all have begun the same one
        for item in sorted(alone, key=lambda item: noted.begun[item.id]):
            do(self._engine, item)
        return rows

    def _is_kept(self, row: Row) -> bool:
        return row["error"] is None or not self._work.retry_failed

    def _failed(self, item: Item, reason: str) -> Row:
        return {**row_of(item, self._work, self._engine.info), "error": reason}

    def _row(self, engine: Engine, item: Item, before: Row | None) -> Row:
        """Transcribe an item, or take what was written of the same content before."""
        try:
            with self._opened(item) as (source, digest):
                same = before is not None and before["hash"] == digest and before["offset"] == item.offset
                if before is not None and same and item.duration in (None, before["duration"]):
                    return {**before, "path": item.path}
                ready = SegmentStream(engine, source, None, self._options).transcript()
        except Exception as error:  # whatever is wrong with one recording does not stop the others
            if _concerns_all(error):
                raise
            kind = "" if isinstance(error, DragomanError) else f"{type(error).__name__}: "
            return self._failed(item, f"{kind}{error}")
        self._write_subtitles(item, ready)
        return with_transcript(row_of(item, self._work, self._engine.info), digest, ready)

    @contextmanager
    def _opened(self, item: Item) -> Iterator[tuple[Any, str]]:
        """Open the audio of an item, for `SegmentStream`, with the hash of the file."""
        assert item.path is not None
        with fetched(item.path) if is_remote(item.path) else nullcontext(item.path) as path:
            source = source_of(path)
            digest = _hash(source)
            if not item.is_whole:
                one = Utterance(id=item.id, audio=path, text="", offset=item.offset, duration=item.duration)
                source = load_audio(one, SAMPLING_RATE)
            yield source, digest

    def _write_subtitles(self, item: Item, transcript: Transcript) -> None:
        for name in formats_of(self._work.subtitles) if self._work.subtitles is not None else ():
            content = render(transcript, name, Layout() if name in ("srt", "vtt") else None)
            self._store.write(f"subtitles/{_file_name(item.id)}.{name}", content.encode())


def _gave_up(deaths: int) -> str:
    return (
        f"gave up: {deaths} workers were killed while they transcribed it. It may need more memory than there is: use "
        "fewer workers, or a smaller `batch_size`."
    )


def _concerns_all(error: BaseException) -> bool:
    """Return whether every other item would fail in the same way: wrong options, nothing can be written."""
    if isinstance(error, ConfigError):
        return True
    return type(error) is DragomanError and not isinstance(error, MissingDependencyError)


def _hash(source: Any) -> str:
    """Return SHA-256 of a file, by its path, or of bytes, in hexadecimal digits.

    Raises:
        AudioError: If the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        try:
            with open(source, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise AudioError(f"{source}: cannot be read: {error.strerror or error}.") from error
    return hashlib.sha256(source).hexdigest()


def _file_name(name: str) -> str:
    """Return the path of an item's files below a folder: as its id, but never outside, hidden or too long."""
    parts = [re.sub(r"[\0:\\]", "_", part) for part in Path(name).parts if part not in ("/", "..")]
    safe = "/".join(part if len(part.encode(errors="surrogateescape")) <= _MAX_NAME else _short(part) for part in parts)
    return (
        safe
        if safe == name and safe
        else f"{safe}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
    )


def _short(part: str) -> str:
    return hashlib.sha256(part.encode(errors="surrogateescape")).hexdigest()[:32]
