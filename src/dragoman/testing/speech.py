"""Synthetic speech-like sound, the same on every machine."""

from typing import Any

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.errors import ConfigError

# Centres of the first three formants in hertz, rounded from G. E. Peterson and H. L. Barney, Control methods used in a
# study of the vowels, 1952, table II (men).
_VOWELS = ((270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (570, 840, 2410), (300, 870, 2240))
_BANDWIDTHS = (60.0, 90.0, 150.0)
_SYLLABLE = 0.2  # seconds


def synthetic_speech(
    seconds: float = 1.0, *, seed: int = 0, sampling_rate: int = SAMPLING_RATE
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return sound with the rhythm and spectrum of speech: vowels of gliding pitch, some after a hiss, and pauses.

    It contains no words, but a model always transcribes it in the same way.

    Args:
        seconds: Its duration.
        seed: Of the random vowels, pitches and pauses.
        sampling_rate: Samples per second.

    Returns:
        Mono samples within ±1, `[round(seconds * sampling_rate)]`.

    Raises:
        ConfigError: If a duration or a rate is not positive.
    """
    if not seconds > 0 or not sampling_rate > 0:
        raise ConfigError(f"`seconds` and `sampling_rate` must be above 0, but are {seconds!r} and {sampling_rate!r}.")
    rng = np.random.default_rng(seed)
    samples = round(seconds * sampling_rate)
    syllable = max(round(_SYLLABLE * sampling_rate), 1)
    parts = [_syllable(rng, syllable, sampling_rate) for _ in range(-(-samples // syllable))]
    return np.concatenate(parts)[:samples].astype(np.float32)


def _syllable(rng: np.random.Generator, samples: int, sampling_rate: int) -> Any:
    """Return a pause (one time in six), or an onset and a vowel."""
    vowel, pitch, glide, loudness = (
        rng.integers(len(_VOWELS)),
        rng.uniform(90, 220),
        rng.uniform(-0.3, 0.3),
        rng.random(),
    )
    hiss = rng.standard_normal(samples)
    if rng.random() < 1 / 6:
        return 1e-3 * hiss.clip(-3, 3)
    time = np.arange(samples) / sampling_rate
    share = np.linspace(0.0, 1.0, samples)
    phase = 2 * np.pi * np.cumsum(pitch * (1 + glide * share)) / sampling_rate
    sound = np.zeros(samples)
    for harmonic in range(1, int(min(4_000, sampling_rate / 2) / (pitch * 1.3)) + 1):
        sound += _resonance(harmonic * pitch, _VOWELS[vowel]) * np.sin(harmonic * phase)
    sound *= np.sin(np.pi * share) ** 0.5 / max(np.abs(sound).max(), 1e-9)
    onset = np.exp(-time / 0.02) * (rng.random() < 0.5)
    return (0.2 + 0.6 * loudness) * (0.8 * sound + 0.06 * onset * hiss.clip(-3, 3))


def _resonance(frequency: float, formants: tuple[int, ...]) -> float:
    """Return the gain of the vocal tract at a frequency: a peak at each formant over a falling slope."""
    peaks = sum(
        1.0 / (1.0 + ((frequency - centre) / width) ** 2) for centre, width in zip(formants, _BANDWIDTHS, strict=True)
    )
    return float((peaks + 0.02) * (500.0 / (500.0 + frequency)))
