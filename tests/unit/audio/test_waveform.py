from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from dragoman.audio.waveform import as_waveform
from dragoman.errors import AudioError


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1.0, 0.0, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1.0, 0.5]),
        (np.array([-128, 64], np.int8), [-1.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),
        (np.array([0.25, -0.5], np.float16), [0.25, -0.5]),
        (np.array([0.25, -0.5], np.float64), [0.25, -0.5]),
        ([0.25, -0.5], [0.25, -0.5]),
        (torch.tensor([0.25, -0.5], requires_grad=True), [0.25, -0.5]),
        (np.array([[0.25, -0.5]]), [0.25, -0.5]),
        (np.array([[0.25], [-0.5]]), [0.25, -0.5]),
        (np.array([0.25, 9.0, -0.5, 9.0])[::2], [0.25, -0.5]),
    ],
)
def test_arrays_are_converted(array: Any, expected: list[float]) -> None:
    waveform = as_waveform(array, sampling_rate=16_000)
    assert waveform.dtype == np.float32
    assert waveform.flags.c_contiguous
    np.testing.assert_array_equal(waveform, np.array(expected, np.float32))


@given(rate=st.integers(1_000, 100_000), target=st.integers(1_000, 100_000), length=st.integers(200, 3_000))
def test_resampling_is_soxrs_and_its_length_exact(rate: int, target: int, length: int) -> None:
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    waveform = as_waveform(samples, sampling_rate=rate, target_sampling_rate=target)
    assert len(waveform) == (2 * length * target + rate) // (2 * rate)
    np.testing.assert_array_equal(waveform, soxr.resample(samples, rate, target) if rate != target else samples)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((2, 100)), r"shape \(2, 100\)"),
        (np.zeros((100, 2)), r"mean\(axis=0\).*axis=1"),
        (np.zeros((1, 1, 5)), "one-dimensional"),
        (np.float32(3), "are a single number: 3.0"),
        (np.zeros(0), "no samples"),
        (np.zeros((1, 0)), "no samples"),
        (np.zeros(5, np.int64), "int64.*scaled"),
        (np.zeros(5, np.uint16), "uint16.*scaled"),
        (np.zeros(5, bool), "bool"),
        (np.zeros(5, complex), "complex128"),
        (np.array(["a"]), "<U1"),
        ([[0.1, 0.2], [0.3]], "array of numbers"),
        (None, "object"),
        ("clip.wav", r"<U8.*load_audio\(path\)"),
        (Path("clip.wav"), "load_audio"),
        (np.array([0.0, np.nan]), "sample 1 .* nan"),
        (np.array([np.inf, 0.0]), "sample 0 .* inf"),
        (np.array([1e300]), "inf"),
        (np.array([0.0, 12_000.0]), "reach 12000.*32768"),
    ],
)
def test_other_arrays_are_refused(array: Any, cause: str) -> None:
    with pytest.raises(AudioError, match=cause) as caught:
        as_waveform(array, sampling_rate=16_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001, 16_000.0, True, None, "16000"])
def test_wrong_rates(rate: Any) -> None:
    with pytest.raises(AudioError, match="`sampling_rate` must be a whole number of hertz"):
        as_waveform([0.0], sampling_rate=rate)
    with pytest.raises(AudioError, match="`target_sampling_rate`"):
        as_waveform([0.0], sampling_rate=8_000, target_sampling_rate=rate)
