"""What `dragoman transcribe` does once its flags are understood: one recording after the other, come what may."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from dragoman._lazy import require
from dragoman.cli.console import LOG, describe
from dragoman.cli.progress import progress_bar
from dragoman.errors import ConfigError, DragomanError, MissingDependencyError
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.plots import plot_window
from dragoman.transcriber.recordings import Input, find_inputs, told_apart
from dragoman.transcriber.segmenting import Examined
from dragoman.transcriber.subtitles import Layout
from dragoman.transcriber.transcriber import Transcriber
from dragoman.transcriber.writers import output_paths, write_transcript

__all__ = ["Output", "run"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the words go.

    Attributes:
        folder: Of the files.
        format: Of the files; `None` prints the words instead.
        skip_existing: Pass over recordings whose files are all there.
        named: Print the name of a recording before its words, since there are several.
        bar: Show the progress, if there is a terminal.
        layout: Of subtitles.
        plots: Folder for pictures; `None` for none.
        plot_format: The ending of their files.
    """

    folder: Path
    format: str | None
    skip_existing: bool
    named: bool
    bar: bool
    layout: Layout
    plots: Path | None
    plot_format: str

    def __post_init__(self) -> None:
        """Check that the format exists, that there is something to skip, and subtitles to lay out."""
        if self.format is not None:
            output_paths(self.folder / "any", self.format)
        elif self.skip_existing:
            raise ConfigError("`--skip_existing` needs files to look for. Add --output_format or --output_dir.")
        if self.plots is not None:
            require("matplotlib.figure", "`--plot`")
        if not self.layout.is_plain and self.format not in ("srt", "vtt", "all"):
            raise ConfigError(
                "Lines and highlighted words are those of subtitles. Add --output_format srt, vtt or all."
            )

    def make_folders(self) -> None:
        """Make the folders, so that hours of work do not end in front of a closed door.

        Raises:
            ConfigError: If nothing can be written there.
        """
        wanted = {"--output_dir": None if self.format is None else self.folder, "--plot": self.plots}
        for flag, folder in wanted.items():
            if folder is None:
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"`{flag}` {folder} cannot be made: {error.strerror}.") from error
            if not os.access(folder, os.W_OK):
                raise ConfigError(f"`{flag}` {folder} may not be written to. Check its permissions.")

    def examiner(self, item: Input) -> Callable[[Examined], object] | None:
        """Return what draws the windows of a recording, numbered from 1 on, if pictures are wanted."""
        if self.plots is None:
            return None
        stem, numbers = self.plots / item.stem, count(1)
        return lambda window: plot_window(window, stem.with_name(f"{stem.name}-{next(numbers):04}.{self.plot_format}"))

    def is_done(self, item: Input) -> bool:
        """Return whether a recording needs no more work."""
        if not self.skip_existing or self.format is None:
            return False
        return all(path.exists() for path in output_paths(self.folder / item.stem, self.format).values())


def run(audio: Sequence[str], load: Callable[[], Transcriber], options: TranscribeOptions, output: Output) -> int:
    """Transcribe what the user named and return the exit code: 1 if a recording failed.

    Args:
        audio: Files, folders, `-`.
        load: Makes the transcriber; called once, and only if there is something to do.
        options: How to cut and decode.
        output: Where the words go.

    Raises:
        DragomanError: If the cause is the model, the options or the memory, which no other recording would escape.
    """
    inputs, unusable = find_inputs(audio)
    if output.format is not None or output.plots is not None:
        inputs = told_apart(inputs)
    output.make_folders()
    failed = []
    for label, error in unusable:
        _report(label, error)
        failed.append(label)
    todo = [item for item in inputs if not output.is_done(item)]
    if len(todo) < len(inputs):
        LOG.info("%d of %d recordings are there already.", len(inputs) - len(todo), len(inputs))
    transcriber = load() if todo else None
    for item in todo:
        assert transcriber is not None
        try:
            _transcribe(transcriber, item, options, output)
        except Exception as error:
            if _concerns_all(error):
                raise
            _report(item.label, error)
            failed.append(item.label)
    total = len(inputs) + len(unusable)
    if failed and total > 1:
        LOG.error("%d of %d recordings failed: %s.", len(failed), total, ", ".join(failed))
    return 1 if failed else 0


def _report(label: str, error: Exception) -> None:
    message, _ = describe(error)
    named = message if label in message else f"{label}: {message}"
    LOG.error("%s", named, exc_info=error if LOG.isEnabledFor(logging.DEBUG) else None)


def _concerns_all(error: Exception) -> bool:
    """Return whether the other recordings would fail in the same way, or nobody listens any more."""
    if isinstance(error, DragomanError):
        return error.exit_code != DragomanError.exit_code and not isinstance(error, MissingDependencyError)
    return isinstance(error, MemoryError | BrokenPipeError)


def _transcribe(transcriber: Transcriber, item: Input, options: TranscribeOptions, output: Output) -> None:
    begin = time.perf_counter()
    segments = transcriber.stream_segments(item.source(), examine=output.examiner(item), **asdict(options))
    with progress_bar(item.label, item.seconds() if output.bar else None, output.bar) as bar:
        for segment in segments:
            bar.update(segments.position)
            if output.format is None and not output.named and segment.text:
                bar.print(segment.text)
    transcript = segments.transcript()
    LOG.info("%s: %.1f s of audio in %.1f s.", item.label, transcript.duration, time.perf_counter() - begin)
    if output.format is not None:
        for path in write_transcript(transcript, output.folder / item.stem, output.format, output.layout):
            LOG.info("%s: written.", path)
    elif output.named:
        print(f"{item.label}\t{transcript.text}", flush=True)  # noqa: T201
