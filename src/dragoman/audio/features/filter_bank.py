"""Kaldi's filter bank: the log power in each of 80 mel bands, every 10 ms.

Reference: http://kaldi-asr.org/doc/feat.html; the window is D. Povey's.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Float32

from dragoman.audio.waveform import Waveform
from dragoman.errors import AudioError

FilterBank: TypeAlias = Float32[np.ndarray[Any, np.dtype[np.float32]], "frames bins"]

_FRAME, _HOP = 0.025, 0.010  # seconds
FRAMES_PER_SECOND = 1 / _HOP
_FULL_RANGE = 2.0**15  # Kaldi reads 16-bit integers
_PREEMPHASIS = 0.97  # share of the previous sample that is subtracted
_FLOOR = float(np.finfo(np.float32).eps)  # power below this is silence
_LOWEST = 20.0  # hertz
_BLOCK = 1024  # frames per Fourier transform: bounds memory


def frame_count(samples: int, sampling_rate: int = 16_000) -> int:
    """Return the number of whole frames in a waveform."""
    frame, hop = round(_FRAME * sampling_rate), round(_HOP * sampling_rate)
    return 0 if samples < frame else 1 + (samples - frame) // hop


def samples_for(frames: int, sampling_rate: int = 16_000) -> int:
    """Return the length of the shortest waveform with this number of frames."""
    return round(_FRAME * sampling_rate) + (frames - 1) * round(_HOP * sampling_rate)


def filter_bank(
    waveform: Waveform, *, num_bins: int = 80, sampling_rate: int = 16_000, dither: float = 0.0
) -> FilterBank:
    """Compute the log filter bank of a waveform.

    The mean of each frame is subtracted, then pre-emphasis and a window are applied, and the power spectrum is summed
    in triangles of equal width in mels.

    Args:
        waveform: Samples `[samples]`, around -1…1.
        num_bins: Bands from 20 Hz to half the sampling rate.
        sampling_rate: In hertz.
        dither: Standard deviation of noise added to each frame, of samples from -32768 to 32767; always the same noise.

    Returns:
        Float32 `[frames, num_bins]`.

    Raises:
        AudioError: If the waveform is shorter than one frame.
    """
    count = frame_count(len(waveform), sampling_rate)
    if count < 1:
        raise AudioError(
            f"A waveform of {len(waveform)} samples is shorter than one frame ({samples_for(1, sampling_rate)} "
            "samples). Leave it out."
        )
    length, hop = round(_FRAME * sampling_rate), round(_HOP * sampling_rate)
    padded = 1 << (length - 1).bit_length()
    window, weights = _window(length), _triangles(padded, num_bins, sampling_rate)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, length)[::hop]
    logs = np.empty((count, num_bins), np.float32)
    noise = np.random.default_rng(0)
    for start in range(0, count, _BLOCK):
        block = frames[start : start + _BLOCK].astype(np.float64) * _FULL_RANGE
        if dither:
            block += dither * noise.standard_normal(block.shape)
        block -= block.mean(1, keepdims=True)
        previous = np.concatenate([block[:, :1], block[:, :-1]], axis=1)
        spectrum = np.fft.rfft((block - _PREEMPHASIS * previous) * window, padded)
        power = spectrum.real**2 + spectrum.imag**2
        logs[start : start + _BLOCK] = np.log(np.maximum(power @ weights, _FLOOR))
    return logs


@lru_cache(maxsize=8)
def _window(length: int) -> Float[np.ndarray[Any, Any], " length"]:
    """Return a Hann window to the power of 0.85."""
    window: np.ndarray[Any, Any] = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    return window


@lru_cache(maxsize=8)
def _triangles(length: int, num_bins: int, sampling_rate: int) -> Float[np.ndarray[Any, Any], "frequencies bins"]:
    """Return the weight of each Fourier bin in each band; the slopes are linear in mels."""
    corners = np.linspace(_mel(_LOWEST), _mel(sampling_rate / 2), num_bins + 2)
    mels = _mel(np.arange(length // 2 + 1) * sampling_rate / length)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    triangles: np.ndarray[Any, Any] = np.minimum((mels - low) / (peak - low), (high - mels) / (high - peak))
    weights: np.ndarray[Any, Any] = np.maximum(triangles, 0.0)
    return weights


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(hertz / 700.0)
