"""Waveforms: one-dimensional float32 arrays of samples around -1…1, mono and finite.

Arrays from elsewhere are converted and checked here; every other module of `audio` relies on it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import soxr
from jaxtyping import Float32

from dragoman.audio import SAMPLING_RATE
from dragoman.batch import to_numpy
from dragoman.errors import AudioError

Waveform: TypeAlias = Float32[np.ndarray[Any, np.dtype[np.float32]], " samples"]

# The sampling rates allowed; they also bound the memory that resampling can take.
MIN_RATE, MAX_RATE = 1_000, 768_000

_MAX_LEVEL = 100.0  # 40 dB above full scale: not a recording but integers that were cast instead of scaled
_EPSILON = 1e-7  # keeps normalised silence finite; models were trained with this value


def as_waveform(array: Any, *, sampling_rate: int, target_sampling_rate: int = SAMPLING_RATE) -> Waveform:
    """Convert samples to a waveform.

    Args:
        array: Mono samples `[samples]`: floats around -1…1, or integers of 8, 16 or 32 bits, which are scaled by their
            full range. NumPy, PyTorch or JAX arrays, or a list of floats. A second axis of size 1 is dropped.
        sampling_rate: Of `array`, in hertz.
        target_sampling_rate: Of the result; soxr resamples if the two differ.

    Returns:
        Float32 samples `[samples]`: the duration of `array` times `target_sampling_rate`, rounded.

    Raises:
        AudioError: If `array` has several channels (or is a batch, which looks the same), is empty, is not finite or
            not numeric.
    """
    check_rate("sampling_rate", sampling_rate)
    check_rate("target_sampling_rate", target_sampling_rate)
    samples = as_float32(array)
    check_samples(samples, "The array: ", sampling_rate)
    if sampling_rate != target_sampling_rate:
        samples = soxr.resample(samples, sampling_rate, target_sampling_rate)
    if len(samples) == 0:
        raise AudioError("The array holds no samples. Give at least one.")
    return samples


def as_float32(array: Any) -> Waveform:
    """Return mono samples as contiguous float32, integers scaled; not resampled and not checked further."""
    samples = _one_dimensional(_numeric(array))
    if np.issubdtype(samples.dtype, np.floating):
        with np.errstate(over="ignore"):  # infinite results are reported by `check_finite`
            return np.ascontiguousarray(samples, np.float32)
    scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = scale if samples.dtype == np.uint8 else 0.0  # 8-bit PCM is unsigned
    scaled: Waveform = ((samples.astype(np.float64) - middle) / scale).astype(np.float32)
    return scaled


def resampled(blocks: Iterable[Waveform], sampling_rate: int, target_sampling_rate: int) -> Iterator[Waveform]:
    """Yield the blocks of one recording at another rate; joined, they equal the recording resampled as a whole."""
    if sampling_rate == target_sampling_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(sampling_rate, target_sampling_rate, num_channels=1)
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)  # the delay of its filter


def normalise(waveform: Waveform, valid: Waveform | None = None) -> Waveform:
    """Shift and scale `waveform` so that `valid`, by default all of it, has zero mean and unit variance."""
    valid = waveform if valid is None else valid
    normalised: Waveform = (waveform - valid.mean()) / np.sqrt(valid.var() + _EPSILON)
    return normalised


def check_rate(name: str, rate: Any) -> None:
    """Raise an error unless `rate` is a plausible sampling rate; `name` is the argument's name."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"`{name}` must be a whole number of hertz from {MIN_RATE} to {MAX_RATE}, but is {rate!r}.")


def check_finite(samples: Waveform, prefix: str, sampling_rate: int, *, first: int = 0) -> None:
    """Raise an error unless all samples are finite; `first` is the index of the first one in its recording."""
    finite = np.isfinite(samples)
    if finite.all():
        return
    index = int(np.argmin(finite))
    raise AudioError(
        f"{prefix}sample {first + index} (at {(first + index) / sampling_rate:.3f} s) is {samples[index]}, not a "
        "finite number. Export the audio again, as 16-bit PCM for example, or replace such samples by 0."
    )


def check_samples(samples: Waveform, prefix: str, sampling_rate: int, *, first: int = 0) -> None:
    """Raise an error unless all samples are finite and of a plausible level; `first` as for `check_finite`."""
    peak = max(samples.max(initial=0.0), -samples.min(initial=0.0))  # NaN if there is one
    if peak <= _MAX_LEVEL:
        return
    check_finite(samples, prefix, sampling_rate, first=first)
    raise AudioError(
        f"{prefix}samples should lie around -1…1, but reach {peak:g}. If they are integers stored as floats, "
        "divide them by the full range of their type (32768 for 16 bits)."
    )


def _numeric(array: Any) -> np.ndarray[Any, Any]:
    try:
        samples = to_numpy(array)
    except (TypeError, ValueError) as error:  # ragged lists, arbitrary objects
        raise AudioError(f"Samples must form an array of numbers, but are a {type(array).__name__}: {error}") from error
    allowed = (np.floating, np.int8, np.int16, np.int32, np.uint8)
    if not any(np.issubdtype(samples.dtype, kind) for kind in allowed):
        hint = ""
        if samples.dtype.kind in "iu":
            hint = " Pass integers scaled to a known range (`.astype(np.int16)`), or floats in -1…1."
        elif samples.dtype.kind in "UO":  # perhaps a path
            hint = " Read a file with load_audio(path)."
        raise AudioError(f"Samples must be floats or integers of 8, 16 or 32 bits, but are {samples.dtype}.{hint}")
    return samples


def _one_dimensional(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if samples.ndim == 2 and 1 in samples.shape:
        return samples.reshape(-1)
    if samples.ndim == 0:
        raise AudioError(
            f"Samples must be an array `[samples]`, but are a single number: {samples}. Pass them together: "
            "`numpy.asarray(samples)`, or blocks of it."
        )
    if samples.ndim != 1:
        raise AudioError(
            f"Samples must be mono and one-dimensional, but have the shape {samples.shape}. Mix channels down "
            "(`array.mean(axis=0)` for [channels, samples], `axis=1` for [samples, channels]); pass rows of a batch "
            "one by one."
        )
    return samples
