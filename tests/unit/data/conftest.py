"""A folder of small recordings."""

from pathlib import Path

import pytest
import soundfile

from dragoman.testing import synthetic_speech


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with `a.wav` to `e.wav`, of one to five tenths of a second."""
    for number, name in enumerate("abcde", 1):
        soundfile.write(tmp_path / f"{name}.wav", synthetic_speech(number / 10, seed=number), 16_000)
    return tmp_path
