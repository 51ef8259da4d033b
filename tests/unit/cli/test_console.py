import io
import json
import logging
import sys
import warnings

import pytest
import typer

from dragoman.cli.console import LOG, describe, report, session
from dragoman.errors import AudioError, CheckpointError, ConfigError, ModelNotFoundError, OutOfMemoryError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AudioError("a"), 1),
        (ConfigError("a"), 2),
        (ModelNotFoundError("a"), 3),
        (OutOfMemoryError("a"), 4),
        (MemoryError(), 4),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000 bytes"), 4),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8000000000 bytes"), 4),
        (ImportError("lib.so: failed to map segment from shared object"), 4),
        (BufferError("cannot allocate memory"), 4),
        (RuntimeError("size mismatch"), 1),
        (CheckpointError("a"), 5),
        (KeyboardInterrupt(), 130),
        (typer.BadParameter("a"), 2),
        (ZeroDivisionError("a"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error, code, capsys):
    with session(debug=False, json_logs=False, verbose=False):
        assert report(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dragoman: error: ")
    assert err.count("\n") == 1


def test_an_unexpected_error_points_to_debug():
    assert describe(ZeroDivisionError("by zero")) == (
        "Unexpected ZeroDivisionError: by zero. This is a bug; --debug shows where.",
        1,
    )


def test_debug_shows_the_traceback(capsys):
    with session(debug=True, json_logs=False, verbose=False):
        try:
            raise AudioError("odd file")
        except AudioError as error:
            report(error)
    err = capsys.readouterr().err
    assert err.startswith("dragoman: error: odd file\nTraceback")
    assert "test_console.py" in err


def test_messages_are_one_line_without_control_characters(capsys):
    with session(debug=False, json_logs=False, verbose=False):
        LOG.warning("odd\nname \x1b[31m.wav \udcff")
    assert capsys.readouterr().err == "dragoman: warning: odd name \\x1b[31m.wav \\udcff\n"


def test_json_logs_are_one_object_per_line(capsys):
    with session(debug=True, json_logs=True, verbose=False):
        try:
            raise AudioError("odd\nfile")
        except AudioError as error:
            report(error)
        LOG.info("found %d", 3)
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["level"] == "error"
    assert first["message"] == "odd file"
    assert "AudioError" in first["traceback"]
    assert first["time"].endswith("+00:00")
    assert (second["level"], second["message"]) == ("info", "found 3")
    assert "traceback" not in second


def test_verbosity(capsys):
    for verbose in (False, True):
        with session(debug=False, json_logs=False, verbose=verbose):
            LOG.info("loading")
            logging.getLogger("dragoman.audio").warning("loud")
    assert capsys.readouterr().err.splitlines() == [
        "dragoman: warning: loud",
        "dragoman: loading",
        "dragoman: warning: loud",
    ]


def test_python_warnings_become_lines(capsys):
    with session(debug=False, json_logs=False, verbose=False):
        warnings.simplefilter("always")
        warnings.warn("The text may be cut.", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "dragoman: warning: The text may be cut.\n"


def test_a_session_restores_logging():
    before = (list(LOG.handlers), LOG.level, LOG.propagate, warnings.showwarning)
    with session(debug=True, json_logs=True, verbose=True):
        assert LOG.handlers != before[0]
    assert (list(LOG.handlers), LOG.level, LOG.propagate, warnings.showwarning) == before


def test_results_are_utf8_in_every_locale(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with session(debug=False, json_logs=False, verbose=False):
        print("مرحبا \udcff", flush=True)
    assert raw.getvalue() == "مرحبا ".encode() + b"\xff\n"
