"""Synthetic speech: reproducible, of the requested length, with pauses and voiced parts."""

import numpy as np
import pytest

from dragoman.errors import ConfigError
from dragoman.testing import synthetic_speech


@pytest.mark.parametrize(
    ("seconds", "rate", "samples"), [(1.0, 16_000, 16_000), (0.3, 8_000, 2_400), (1e-4, 16_000, 2)]
)
def test_length_and_range(seconds: float, rate: int, samples: int) -> None:
    speech = synthetic_speech(seconds, sampling_rate=rate)
    assert speech.shape == (samples,)
    assert speech.dtype == np.float32
    assert np.abs(speech).max() <= 1


def test_seed_determines_the_clip() -> None:
    assert np.array_equal(synthetic_speech(2, seed=3), synthetic_speech(2, seed=3))
    assert not np.array_equal(synthetic_speech(2, seed=3), synthetic_speech(2, seed=4))


def test_speech_has_pauses_and_voiced_parts() -> None:
    speech = synthetic_speech(20)
    loudness = np.sqrt((speech.reshape(-1, 400) ** 2).mean(axis=1))  # every 25 ms
    assert 0.05 < (loudness < 0.005).mean() < 0.6
    spectrum = np.abs(np.fft.rfft(speech)) ** 2
    hertz = np.fft.rfftfreq(len(speech), 1 / 16_000)
    assert spectrum[(hertz > 80) & (hertz < 4_000)].sum() > 0.9 * spectrum.sum()


@pytest.mark.parametrize(("seconds", "rate"), [(0, 16_000), (-1, 16_000), (float("nan"), 16_000), (1, 0)])
def test_invalid_durations_are_refused(seconds: float, rate: int) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        synthetic_speech(seconds, sampling_rate=rate)
