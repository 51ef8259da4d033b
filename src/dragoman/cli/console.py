"""Messages on standard error, one per line, and the exit codes of errors.

Everything passes through `logging`, including the library's warnings, so that `--json_logs` changes the form in one
place.
"""

import errno
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import typer

from dragoman._interrupts import INTERRUPTED, report_with
from dragoman.errors import DragomanError, OutOfMemoryError, is_out_of_memory

LOG = logging.getLogger("dragoman")


def one_line(text: str) -> str:
    """Return `text` without line breaks, and with control characters (of odd file names) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


class _Lines(logging.Handler):
    """Writes `dragoman: warning: …`, or one JSON object per line."""

    def __init__(self, json_logs: bool) -> None:
        super().__init__()
        self.json_logs = json_logs

    def emit(self, record: logging.LogRecord) -> None:
        message, level = one_line(record.getMessage()), record.levelname.lower()
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        if self.json_logs:
            now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
            fields = {"time": now, "level": level, "message": message} | ({"traceback": trace} if trace else {})
            line = json.dumps(fields)
        else:
            label = f"{level}: " if record.levelno >= logging.WARNING else ""
            line = f"dragoman: {label}{message}" + (f"\n{trace}" if trace else "")
        print(line, file=sys.stderr, flush=True)  # noqa: T201 (looked up now: a progress bar replaces it)


@contextmanager
def session(*, debug: bool, json_logs: bool, verbose: bool) -> Iterator[None]:
    """Set up messages for one run of the command, and restore everything afterwards."""
    if json_logs or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the hub's client is imported
    handler, level, propagate = _Lines(json_logs), LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.propagate = False  # or a root handler would repeat everything
    LOG.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
    report_with(lambda: LOG.error("Interrupted."))
    if isinstance(sys.stdout, io.TextIOWrapper):  # not if a test replaced it
        # Transcripts are always UTF-8; a file name that is not is written as its bytes.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # each text once
        warnings.showwarning = lambda message, *_: LOG.warning(str(message))
        try:
            yield
        finally:
            LOG.removeHandler(handler)
            LOG.setLevel(level)
            LOG.propagate = propagate


def describe(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of an error."""
    match error:
        case DragomanError() if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            return str(error), error.exit_code
        case typer.TyperException():
            message = error.format_message().replace("Value error, ", "")  # a prefix of pydantic, which typer uses
            return f"{message} (`dragoman --help` lists commands and options.)", 2
        case BrokenPipeError():
            return str(error), 1
        case OSError() if error.filename is None and error.errno == errno.ENOSPC:
            return f"standard output cannot be written to: {error.strerror}. Free some space.", 1
        case KeyboardInterrupt():
            return "Interrupted.", INTERRUPTED
        case _ if is_out_of_memory(error):
            return (
                "Out of memory. A smaller --batch_size or --beam_size needs less.",
                OutOfMemoryError.exit_code,
            )
        case _:
            kind = type(error).__name__
            return f"Unexpected {kind}: {error}. This is a bug; --debug shows where.", 1


def report(error: BaseException) -> int:
    """Log an error on one line, with the traceback if `--debug` is set, and return its exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    message, code = describe(error)
    LOG.error("%s", message, exc_info=error if LOG.isEnabledFor(logging.DEBUG) else None)
    return code
