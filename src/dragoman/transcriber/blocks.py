"""From what users pass as audio to blocks of samples at 16 kHz: files are read, arrays converted and copied."""

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.reading.io import stream_audio
from dragoman.audio.reading.source import AudioSource
from dragoman.audio.waveform import Waveform, as_float32, as_waveform, check_rate, resampled
from dragoman.batch import to_numpy
from dragoman.errors import AudioError, ConfigError
from dragoman.transcriber.options import TranscribeOptions

Audio: TypeAlias = "AudioSource | np.ndarray[Any, Any] | Iterable[np.ndarray[Any, Any]]"


def blocks_of(audio: Audio, sampling_rate: int | None, options: TranscribeOptions) -> Iterable[Waveform]:
    """Return the blocks of a recording at 16 kHz.

    Arrays, also those in a list, are copied at once and may be overwritten while segments are still decoded; blocks of
    an iterator are copied by whoever keeps them (`dragoman.audio.segment`).

    Args:
        audio: As for `Transcriber.transcribe`.
        sampling_rate: Sampling rate of arrays in hertz; `None` is 16 kHz.
        options: How files are read.

    Raises:
        AudioError: If an array is not a waveform. Errors in files and blocks are raised while iterating.
        ConfigError: If `sampling_rate` is given for a file, or `audio_track` for samples.
    """
    rate = SAMPLING_RATE if sampling_rate is None else sampling_rate
    is_blocks = isinstance(audio, list | tuple | Iterator) and not isinstance(audio, io.IOBase)  # files are iterators
    if (is_blocks or _is_array(audio)) and options.audio_track is not None:
        raise ConfigError(f"`audio_track` ({options.audio_track}) is for files; samples have no tracks. Leave it out.")
    if _is_array(audio):
        return iter([as_waveform(np.array(to_numpy(audio)), sampling_rate=rate)])
    if is_blocks:
        blocks = [_copy(block) for block in audio] if isinstance(audio, list | tuple) else audio
        return live_blocks(cast(Iterable[Any], blocks), rate)
    if sampling_rate is not None:
        raise ConfigError(
            f"`sampling_rate` ({sampling_rate}) is for arrays of samples; a file states its own. Leave it out."
        )
    if isinstance(audio, bytearray | memoryview):
        audio = bytes(audio)
    return stream_audio(
        cast(AudioSource, audio),
        sampling_rate=SAMPLING_RATE,
        audio_track=options.audio_track,
        on_damage=options.on_damage,
    )


def live_blocks(blocks: Iterable[Any], sampling_rate: int) -> Iterator[Waveform]:
    """Return blocks of samples at any rate as blocks at 16 kHz, lazily.

    Raises:
        AudioError: If the sampling rate is no plausible number of hertz.
    """
    check_rate("sampling_rate", sampling_rate)
    return resampled(map(_block, blocks), sampling_rate, SAMPLING_RATE)


def _is_array(audio: Any) -> bool:
    """Return whether `audio` is an array of NumPy, PyTorch or JAX."""
    return getattr(audio, "__array__", None) is not None and not isinstance(audio, str | bytes)  # NumPy's have it too


def _copy(block: Any) -> Any:
    return np.array(to_numpy(block)) if _is_array(block) else block


def _block(samples: Any) -> Waveform:
    if isinstance(samples, str | os.PathLike | bytes):
        raise AudioError(
            f"`transcribe` takes one recording, a file or blocks of samples, but a list holds {samples!r:.80}. "
            "Call it once for each file."
        )
    return as_float32(samples)
