"""Whisper's log-mel spectrogram: the log power in each of 80 or 128 mel bands, every 10 ms.

Reference: Whisper, section 2.2, https://arxiv.org/abs/2212.04356; mel scale and filters from Slaney's Auditory Toolbox.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Float32

from dragoman.audio.waveform import Waveform

LogMel: TypeAlias = Float32[np.ndarray[Any, np.dtype[np.float32]], "mels frames"]

_FLOOR = 1e-10  # power below this is silence
_RANGE = 8.0  # decades kept below the maximum
_BLOCK = 1024  # frames per Fourier transform: bounds memory and fits the CPU cache

# Slaney's mel scale is linear up to 1000 Hz, 200/3 Hz per mel, then logarithmic, 27 mels per factor of 6.4.
_BREAK_HERTZ = 1000.0
_HERTZ_PER_MEL = 200.0 / 3.0
_BREAK_MEL = _BREAK_HERTZ / _HERTZ_PER_MEL
_MELS_PER_E = 27.0 / np.log(6.4)


def mel_filter_bank(
    *, num_bins: int, num_mels: int, sampling_rate: int, max_hertz: float = 8000.0
) -> Float[np.ndarray[Any, np.dtype[np.float64]], "bins mels"]:
    """Return the weight of each Fourier bin in each mel band, from 0 Hz to `max_hertz`.

    Bands are triangles in hertz with corners equally spaced in mels, each of unit area, so that wide bands do not get
    more power.

    Args:
        num_bins: Bins of a Fourier transform of length `2 * (num_bins - 1)`.
        num_mels: Number of bands.
        sampling_rate: In hertz.
        max_hertz: Upper corner of the highest band.
    """
    highest = (
        _BREAK_MEL + _MELS_PER_E * np.log(max_hertz / _BREAK_HERTZ)
        if max_hertz > _BREAK_HERTZ
        else max_hertz / _HERTZ_PER_MEL
    )
    mels = np.linspace(0.0, highest, num_mels + 2)
    logarithmic = _BREAK_HERTZ * np.exp((mels - _BREAK_MEL) / _MELS_PER_E)
    corners = np.where(mels < _BREAK_MEL, mels * _HERTZ_PER_MEL, logarithmic)
    bins = np.linspace(0.0, sampling_rate / 2, num_bins)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    triangles = np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak))
    weights: np.ndarray[Any, np.dtype[np.float64]] = np.maximum(triangles, 0.0) * 2.0 / (high - low)
    return weights


def log_mel_spectrogram(
    waveform: Waveform, *, filters: Float[np.ndarray[Any, Any], "bins mels"], hop_length: int, length: int | None = None
) -> LogMel:
    """Compute Whisper's features of a waveform.

    The waveform is reflected by half a frame at both ends, cut into frames every `hop_length` samples, weighted with a
    periodic Hann window and transformed. The log10 power of the bands is clipped at 8 decades below the maximum, then
    shifted and scaled so that speech lies around -1…1.

    Args:
        waveform: Samples `[samples]`.
        filters: From `mel_filter_bank`; their bins determine the length of a frame.
        hop_length: Samples from one frame to the next.
        length: Pad the waveform with zeros to this length. This costs nothing: silent frames are not transformed.

    Returns:
        Float32 `[mels, frames]` with `length // hop_length` frames.
    """
    frame_length = 2 * (len(filters) - 1)
    length = len(waveform) if length is None else length
    # A frame further than this after the last sample holds zeros alone, reflected or not.
    transformed = min(length, -(-(len(waveform) + frame_length) // hop_length) * hop_length)
    samples = np.pad(waveform, (0, transformed - len(waveform)))
    samples = np.pad(samples, frame_length // 2, mode="reflect" if len(samples) > 1 else "edge")
    frames = np.lib.stride_tricks.sliding_window_view(samples, frame_length)[::hop_length][: transformed // hop_length]
    window, weights = _hann(frame_length), filters.astype(np.float32)
    logs = np.full((length // hop_length, weights.shape[1]), np.log10(np.float32(_FLOOR)), np.float32)
    for start in range(0, len(frames), _BLOCK):
        spectrum = np.fft.rfft(frames[start : start + _BLOCK] * window)
        power = spectrum.real**2 + spectrum.imag**2  # [frames, bins]
        logs[start : start + len(power)] = np.log10(np.maximum(power @ weights, _FLOOR))
    peak = logs.max(initial=-np.inf)
    # [frames, mels] -> [mels, frames]
    return np.ascontiguousarray((np.maximum(logs, peak - np.float32(_RANGE)).T + np.float32(4.0)) / np.float32(4.0))


@lru_cache(maxsize=8)
def _hann(length: int) -> Waveform:
    window: Waveform = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)
    return window
