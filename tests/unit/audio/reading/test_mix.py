"""Channels mixed down to mono, above all those that cancel each other."""

import io
import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from dragoman.audio.reading.io import load_audio, stream_audio
from dragoman.audio.reading.mix import Mixer

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def encoded(channels: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, channels.T, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def encoded_by_ffmpeg(channels: np.ndarray) -> bytes:
    av = pytest.importorskip("av", reason="needs the extra media")
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("pcm_f32le", rate=RATE, layout="stereo")
        for start in range(0, channels.shape[1], 1024):
            part = np.ascontiguousarray(channels[:, start : start + 1024].T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("encode", [encoded, encoded_by_ffmpeg])
def test_channels_in_antiphase_are_not_lost(encode: Callable[[np.ndarray], bytes]) -> None:
    sound = noise(5)
    data = encode(np.stack([sound, -0.9 * sound]))
    with pytest.warns(UserWarning, match="the given bytes: its channels cancel each other") as caught:
        loaded = load_audio(data)
    assert len(caught) == 1
    np.testing.assert_array_equal(loaded, sound)
    with pytest.warns(UserWarning, match="from 0 s on"):
        blocks = list(stream_audio(data, block_seconds=0.3))
    np.testing.assert_array_equal(np.concatenate(blocks), loaded)


@pytest.mark.parametrize(
    "channels",
    [
        [noise(5), noise(5)],
        [noise(5), noise(5, seed=1)],
        [noise(5), 0 * noise(5)],
        [noise(5), -0.3 * noise(5)],
        [noise(5) + 0.3, noise(5) - 0.3],  # an offset, not sound, has opposite signs
        [1e-5 * noise(5), -1e-5 * noise(5)],  # noise of a converter
        [noise(5), *[0 * noise(5)] * 7],
    ],
)
def test_other_channels_are_averaged_without_a_word(channels: list[np.ndarray]) -> None:
    stacked = np.stack(channels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_audio(encoded(stacked))
    np.testing.assert_allclose(loaded, stacked.mean(axis=0), atol=1e-7)


def test_the_choice_changes_seldom_and_without_a_click() -> None:
    """A speaker in antiphase, then two on one channel each: both must stay."""
    time = np.arange(10 * RATE) / RATE
    tone = (0.2 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
    left, right = tone.copy(), -tone
    right[5 * RATE :] = 0  # from 5 s on only the left one, from 8 s on only the right one
    left[8 * RATE :], right[8 * RATE :] = 0, tone[8 * RATE :]
    with pytest.warns(UserWarning, match="cancel each other"):
        loaded = load_audio(encoded(np.stack([left, right])))
    np.testing.assert_array_equal(loaded[: 5 * RATE], tone[: 5 * RATE])
    np.testing.assert_allclose(loaded[8 * RATE :], tone[8 * RATE :] / 2, atol=1e-7)
    assert np.abs(np.diff(loaded)).max() < 0.02  # the steps of the tone itself are 0.016


def test_live_blocks_of_any_length() -> None:
    sound = noise(3)
    channels = np.stack([sound, -sound])
    mixer = Mixer("-", RATE, 2)
    with pytest.warns(UserWarning, match=r"^-: its channels cancel"):
        parts = [
            mixer.mix(channels[:, start:end], mixer.mean(channels[:, start:end]))
            for start, end in itertools.pairwise([*range(0, 3 * RATE, 777), 3 * RATE])
        ]
    np.testing.assert_array_equal(np.concatenate(parts), sound)
