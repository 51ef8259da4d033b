"""Decoding an audio file to blocks of mono samples at its own sampling rate.

There are two decoders: libsndfile (through soundfile) and, for other formats, FFmpeg (through PyAV, an optional
package). Both are read forward, block by block, and no allocation depends on a header.
"""

import io
import os
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import soundfile

from dragoman._lazy import require
from dragoman.audio.reading.containers import FFMPEG, Layout, inspect, truncated
from dragoman.audio.reading.mix import Mixer
from dragoman.audio.reading.source import AudioFile
from dragoman.audio.waveform import MAX_RATE, MIN_RATE, Waveform, check_samples
from dragoman.errors import AudioError

__all__ = ["DecodedStream", "decode"]

_MAX_CHANNELS = 64
_BLOCK_VALUES = 1 << 17  # samples x channels per block, 512 KiB


@dataclass(frozen=True, kw_only=True)
class DecodedStream:
    """A stream of one sampling rate.

    Attributes:
        sampling_rate: In hertz.
        blocks: Mono float32 blocks `[samples]`, finite, iterated once.
    """

    sampling_rate: int
    blocks: Iterator[Waveform]


def decode(audio: AudioFile) -> Iterator[DecodedStream]:
    """Yield the streams of a file, nearly always one; each must be consumed before the next.

    Raises:
        AudioError: If the file is malformed, truncated, or has samples that are not finite.
        MissingDependencyError: If only PyAV can read it and is not installed.
    """
    layout = inspect(audio)
    if layout.container in FFMPEG:
        yield from _decode_av(audio, layout.container)
    else:
        for ranges in layout.parts:
            yield from _decode_soundfile(audio, layout, ranges)


def _check_format(audio: AudioFile, sampling_rate: int, channels: int) -> None:
    if not MIN_RATE <= sampling_rate <= MAX_RATE:
        raise AudioError(
            f"{audio.name}: its header gives a sampling rate of {sampling_rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are "
            "supported. If the header is wrong, set the true rate with `sox -r RATE INPUT output.wav`."
        )
    if not 1 <= channels <= _MAX_CHANNELS:
        raise AudioError(
            f"{audio.name}: its header gives {channels} channels; 1 to {_MAX_CHANNELS} are supported. "
            "Mix it down first: `ffmpeg -i INPUT -ac 1 output.wav`."
        )


class _Ranges(io.RawIOBase):
    """Byte ranges of a file, joined. `claimed` is the size that it reports."""

    def __init__(self, audio: AudioFile, ranges: list[tuple[int, int]], claimed: int | None = None) -> None:
        self._audio, self._ranges = audio, ranges
        self._starts = list(accumulate((size for _, size in ranges), initial=0))  # of each range, and the end
        self._claimed = self._starts[-1] if claimed is None else claimed
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        position = self._position
        if position > self._starts[-1]:  # libsndfile looks for tags at the claimed end: redirect to the true end
            position += self._starts[-1] - self._claimed
        index = bisect(self._starts, position) - 1
        if not 0 <= index < len(self._ranges):
            return b""
        offset, length = self._ranges[index]
        inside = position - self._starts[index]
        left = length - inside
        data = self._audio.at(offset + inside, left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        done = 0
        while done < len(buffer) and (data := self.read(len(buffer) - done)):
            buffer[done : done + len(data)] = data
            done += len(data)
        return done

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}[whence]
        return self._position

    def tell(self) -> int:
        return self._position


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A sound file that is never rewound.

    soundfile seeks after every read of a seekable file. This fails on FLAC of unknown length, and corrupts MP3 at block
    borders, since its frames use bits of earlier ones. It also stops at the number of samples estimated at the start.
    """

    def seekable(self) -> bool:
        return False


_ENDLESS = 1 << 40  # bytes; the true end comes first


def _decode_soundfile(audio: AudioFile, layout: Layout, ranges: list[tuple[int, int]]) -> Iterator[DecodedStream]:
    stream = _Ranges(audio, ranges, claimed=None if layout.trusted else _ENDLESS)
    try:
        file = _ForwardSoundFile(stream)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        cause = str(error).partition(": ")[2].rstrip(".") or str(error)
        raise AudioError(
            f"{audio.name}: is malformed or in an unknown encoding: {cause} (container: "
            f"{layout.container}). Try `ffmpeg -i INPUT output.wav`."
        ) from error
    with file:
        _check_format(audio, file.samplerate, file.channels)
        exact = layout.trusted and layout.container != "mp3"  # an MP3 counts samples that its decoder removes
        yield DecodedStream(sampling_rate=file.samplerate, blocks=_soundfile_blocks(audio, file, exact))


def _soundfile_blocks(audio: AudioFile, file: soundfile.SoundFile, exact: bool) -> Iterator[Waveform]:
    length, done = _BLOCK_VALUES // file.channels, 0
    mixer = Mixer(audio.name, file.samplerate, file.channels)
    while True:
        try:
            block = file.read(length, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            cause = str(error).rstrip(".") or "the decoder gave up"
            raise _damaged(audio, done / file.samplerate, cause) from error
        if len(block) == 0:
            break
        yield _mono(audio, mixer, block.T, file.samplerate, done)
        done += len(block)
    if exact and done < file.frames < _ENDLESS:
        raise truncated(audio, f"its header gives {file.frames} samples, but there are only {done}")


def _mono(audio: AudioFile, mixer: Mixer, channels: Any, sampling_rate: int, done: int) -> Waveform:
    """Return `channels` `[channels, samples]` mixed down and checked; `done` is the number of samples before them."""
    mean = mixer.mean(channels)
    check_samples(mean, f"{audio.name}: ", sampling_rate, first=done)
    return mixer.mix(channels, mean)


def _damaged(audio: AudioFile, seconds: float, cause: object) -> AudioError:
    return AudioError(
        f"{audio.name}: is damaged or truncated: decoding failed after {seconds:.2f} s ({cause}). Copy it again from "
        "its source; to use the rest, try `ffmpeg -i INPUT output.wav`."
    )


_HEADERLESS = ("aac", "amr", "g722")  # FFmpeg guesses their duration


def _decode_av(audio: AudioFile, demuxer: str) -> Iterator[DecodedStream]:
    av = require("av", f"Reading {audio.name} (M4A, MP4, WebM, AAC, …)")
    stream = io.BufferedReader(_Ranges(audio, [(0, audio.size)]))
    with _av_errors(av, audio):
        container = av.open(stream, format=demuxer, metadata_errors="ignore")
    with closing(container):
        if not container.streams.audio:
            raise AudioError(
                f"{audio.name}: has no audio, only {_kinds(container.streams)}. Pass a file with an audio track."
            )
        track = container.streams.audio[0]
        if track.codec_context is None:
            raise AudioError(f"{audio.name}: its audio is in an encoding unknown to FFmpeg. Export it as FLAC.")
        sampling_rate, channels = track.codec_context.sample_rate, track.codec_context.channels
        _check_format(audio, sampling_rate, channels)
        yield DecodedStream(sampling_rate=sampling_rate, blocks=_av_blocks(av, audio, container, track))


def _av_blocks(av: Any, audio: AudioFile, container: Any, track: Any) -> Iterator[Waveform]:
    sampling_rate, channels = track.codec_context.sample_rate, track.codec_context.channels
    # Interleaved, since PyAV crashes on planar samples of some malformed files.
    to_float = av.AudioResampler(format="flt", layout=track.codec_context.layout, rate=sampling_rate)
    frames, done = container.decode(track), 0
    mixer = Mixer(audio.name, sampling_rate, channels)
    while True:
        with _av_errors(av, audio, done / sampling_rate):
            frame = next(frames, None)
            converted = to_float.resample(frame)
        for part in converted:
            interleaved = part.to_ndarray().reshape(-1, channels)
            yield (block := _mono(audio, mixer, interleaved.T, sampling_rate, done))
            done += len(block)
        if frame is None:
            break
    stated, decoded = _av_duration(container, track), done / sampling_rate
    if decoded < 0.98 * stated - 1:
        raise truncated(audio, f"its header gives {stated:.2f} s of audio, but there are only {decoded:.2f} s")


def _av_duration(container: Any, track: Any) -> float:
    """Return the seconds of audio in the header, or 0 if it has none, or only those of a video that may last longer."""
    if container.format.name in _HEADERLESS:
        return 0.0
    if track.duration:
        return float(track.duration * track.time_base)
    alone = len(container.streams) == 1 and container.duration
    return float(container.duration) / 1e6 if alone else 0.0  # microseconds


@contextmanager
def _av_errors(av: Any, audio: AudioFile, seconds: float = 0.0) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise _damaged(audio, seconds, cause) from error


def _kinds(streams: Sequence[Any]) -> str:
    return " and ".join(sorted({stream.type for stream in streams})) or "an empty container"
