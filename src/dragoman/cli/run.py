"""The work of `dragoman transcribe`: recordings to transcripts; one that fails does not stop the others."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

from dragoman._lazy import require
from dragoman.cli.console import LOG, describe
from dragoman.cli.flags import OutputFlags
from dragoman.cli.progress import progress_bar
from dragoman.errors import AudioError, ConfigError, DragomanError, MissingDependencyError
from dragoman.transcriber.layout import Layout
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.plots import plot_window
from dragoman.transcriber.recordings import Recording, find_recordings, with_distinct_outputs
from dragoman.transcriber.result import Segment, Transcript
from dragoman.transcriber.segmenting import Examined
from dragoman.transcriber.transcriber import Transcriber
from dragoman.transcriber.writers import clock, formats_of, output_paths, render, write_transcript

_MAX_NAME = 255  # bytes of a file name, in all usual file systems


@dataclass(frozen=True)
class Output:
    """Writes transcripts and plots where the user wants them.

    Attributes:
        flags: The user's choices.
        layout: Layout of subtitles.
        bar: Whether a terminal shows a progress bar.
        times: Whether segments are printed with their times.
    """

    flags: OutputFlags
    layout: Layout
    bar: bool
    times: bool = False

    def __post_init__(self) -> None:
        if self.flags.format is not None:
            formats_of(self.flags.format)
        elif self.flags.skip_existing:
            raise ConfigError("`--skip_existing` needs files to look for. Add --output_format or --output_dir.")
        if self.flags.plot is not None:
            require("matplotlib.figure", "`--plot`")
        if self.layout != Layout() and not self.has_subtitles:
            raise ConfigError(
                "Line lengths and highlighted words are for subtitles. Add --output_format srt, vtt or all."
            )

    @property
    def to_stdout(self) -> bool:
        """Whether the content of the files goes to standard output: `-o -`."""
        return str(self.flags.output_dir) == "-"

    @property
    def has_subtitles(self) -> bool:
        """Whether one of the files is made of cues, which end with words."""
        return self.flags.format is not None and not {"srt", "vtt"}.isdisjoint(formats_of(self.flags.format))

    def make_folders(self) -> None:
        """Make the folders, before hours of work that could not be written.

        Raises:
            ConfigError: If a folder cannot be made or written to.
        """
        flags = self.flags
        wanted = {
            "--output_dir": None if flags.format is None or self.to_stdout else flags.folder,
            "--plot": flags.plot,
        }
        for flag, folder in wanted.items():
            if folder is None:
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"`{flag}` {folder} cannot be made: {error.strerror}.") from error
            if not os.access(folder, os.W_OK):
                raise ConfigError(f"`{flag}` {folder} cannot be written to. Check its permissions.")

    def name_problem(self, item: Recording) -> AudioError | None:
        """Return why the outputs of a recording cannot have its name, if so: they are longer, and may be too long."""
        flags = self.flags
        if flags.format is None or self.to_stdout:
            return None
        paths = output_paths(flags.folder / item.stem, flags.format).values()
        longest = max(paths, key=lambda path: len(os.fsencode(path.name)))
        count = len(os.fsencode(longest.name))
        if count <= _MAX_NAME:
            return None
        return AudioError(
            f"{item.label}: its output would be called {longest.name[:40]}…{longest.suffix}, {count} bytes; a name may "
            f"have {_MAX_NAME}. Give the recording a shorter name, or use -o - for standard output."
        )

    def examiner(self, item: Recording) -> Callable[[Examined], object] | None:
        """Return a function that plots the windows of a recording, numbered from 1, if plots are wanted."""
        if self.flags.plot is None:
            return None
        stem, numbers, ending = self.flags.plot / item.stem, count(1), self.flags.plot_format
        return lambda window: plot_window(window, stem.with_name(f"{stem.name}-{next(numbers):04}.{ending}"))

    def is_done(self, item: Recording) -> bool:
        """Return whether a recording is to be skipped."""
        flags = self.flags
        if not flags.skip_existing or flags.format is None:
            return False
        return all(path.exists() for path in output_paths(flags.folder / item.stem, flags.format).values())


def run(audio: Sequence[str], load: Callable[[], Transcriber], options: TranscribeOptions, output: Output) -> int:
    """Transcribe recordings and return the exit code: 1 if one failed.

    Args:
        audio: Files, folders, or `-` for standard input.
        load: Makes the transcriber; called once, and only if there is something to do.
        options: How to split and decode.
        output: Where transcripts go.

    Raises:
        DragomanError: If the model, the options or the memory is the cause: every other recording would fail too.
    """
    if sys.stdout is None and (output.flags.format is None or output.to_stdout):
        raise DragomanError("standard output is closed, so the transcript would be lost. Add --output_format.")
    recordings, unusable = find_recordings(audio)
    if output.flags.format is not None or output.flags.plot is not None:
        recordings = with_distinct_outputs(recordings)
    output.make_folders()
    unusable += [(item.label, fault) for item in recordings if (fault := output.name_problem(item))]
    recordings = [item for item in recordings if output.name_problem(item) is None]
    for label, error in unusable:
        _report(label, error)
    failed = [label for label, _ in unusable]
    todo = [item for item in recordings if not output.is_done(item)]
    if len(todo) < len(recordings):
        LOG.info("%d of %d recordings are already transcribed.", len(recordings) - len(todo), len(recordings))
    transcriber = load() if todo else None
    if transcriber is not None and output.has_subtitles and transcriber.aligns_words:
        options = replace(options, word_timestamps=True)
    named = len(audio) > 1 or Path(audio[0]).is_dir()
    results = iter(()) if transcriber is None else _results(transcriber, todo, options, output, named)
    for item, problem in results:
        if problem is None:
            continue
        if _concerns_all(problem):
            raise problem
        _report(item.label, problem)
        failed.append(item.label)
    total = len(recordings) + len(unusable)
    if failed and total > 1:
        LOG.error("%d of %d recordings failed: %s.", len(failed), total, ", ".join(failed))
    return 1 if failed else 0


def _report(label: str, error: Exception) -> None:
    message, _ = describe(error)
    named = message if label in message else f"{label}: {message}"
    LOG.error("%s", named, exc_info=error if LOG.isEnabledFor(logging.DEBUG) else None)


def _concerns_all(error: Exception) -> bool:
    """Return whether the other recordings would fail in the same way, or the reader of the output is gone."""
    if isinstance(error, DragomanError):
        return error.exit_code != DragomanError.exit_code and not isinstance(error, MissingDependencyError)
    return isinstance(error, MemoryError | BrokenPipeError)


def _results(
    transcriber: Transcriber, todo: Sequence[Recording], options: TranscribeOptions, output: Output, named: bool
) -> Iterator[tuple[Recording, Exception | None]]:
    """Transcribe recordings and write the results; yield each with the error that stopped it, if one did."""
    if len(todo) == 1 or output.flags.plot is not None:
        for item in todo:
            try:
                _transcribe(transcriber, item, options, output, named)
            except Exception as error:
                yield item, error
            else:
                yield item, None
        return
    begin = time.perf_counter()
    sources = (item.source() for item in todo)
    transcripts = transcriber.transcribe_many(sources, **asdict(options))
    with progress_bar(f"{len(todo)} recordings", len(todo), output.bar, unit="recordings") as bar:
        for done, (item, result) in enumerate(zip(todo, transcripts, strict=True), 1):
            try:
                if isinstance(result, Exception):
                    raise result
                LOG.info("%s: %.1f s of audio.", item.label, result.duration)
                _write(result, item, options, output, bar.print if named else None)
            except Exception as error:
                yield item, error
            else:
                yield item, None
            bar.update(done)
    LOG.info("%d recordings in %.1f s.", len(todo), time.perf_counter() - begin)


def _transcribe(
    transcriber: Transcriber, item: Recording, options: TranscribeOptions, output: Output, named: bool
) -> None:
    """Transcribe a recording; if it is `named`, its name is printed before the transcript."""
    begin, flags = time.perf_counter(), output.flags
    segments = transcriber.stream_segments(item.source(), examine=output.examiner(item), **asdict(options))
    with progress_bar(item.label, item.seconds() if output.bar else None, output.bar) as bar:
        for segment in segments:
            bar.update(segments.position)
            if flags.format is None and not named and segment.text:
                bar.print(_line(segment) if output.times else segment.text)
    transcript = segments.transcript()
    LOG.info("%s: %.1f s of audio in %.1f s.", item.label, transcript.duration, time.perf_counter() - begin)
    _write(transcript, item, options, output, partial(print, flush=True) if named else None)


def _write(
    transcript: Transcript,
    item: Recording,
    options: TranscribeOptions,
    output: Output,
    show: Callable[[str], object] | None,
) -> None:
    """Write a transcript to its files or to standard output; without either, `show` gets its name and text."""
    flags = output.flags
    if not transcript.text:
        LOG.warning("%s", _no_text(item, transcript, options))
    if output.to_stdout:
        for name in formats_of(flags.format or "txt"):
            sys.stdout.write(render(transcript, name, output.layout))
        sys.stdout.flush()
    elif flags.format is not None:
        for path in write_transcript(transcript, flags.folder / item.stem, flags.format, output.layout):
            if output.bar and not output.times and sys.stderr.isatty():  # a person wants to know, a script knows
                print(f"dragoman: {path}: written.", file=sys.stderr)  # noqa: T201
            LOG.info("%s: written.", path)
    elif show is not None:
        show(f"{item.label}\t{transcript.text}")


def _line(segment: Segment) -> str:
    """Return a segment on one line, with its times as `whisper` writes them."""
    return f"[{clock(segment.start)} --> {clock(segment.end)}]  {segment.text}"


def _no_text(item: Recording, transcript: Transcript, options: TranscribeOptions) -> str:
    found = "no speech was found" if not transcript.segments and options.vad_filter else "no text came of its speech"
    hint = "Listen to it" + ("; --no_vad_filter decodes everything." if options.vad_filter else ".")
    return f"{item.label}: the transcript is empty: {found} in {transcript.duration:.1f} s of audio. {hint}"
