"""Live audio: from a microphone, or from another program as raw samples or as a WAV stream."""

import queue
import struct
import sys
from collections.abc import Iterator
from math import inf
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dragoman._lazy import require
from dragoman.audio import SAMPLING_RATE
from dragoman.audio.reading.containers import container_of
from dragoman.audio.reading.ends import UNKNOWN_SIZE
from dragoman.audio.reading.mix import Mixer
from dragoman.audio.reading.mpeg import frame_length
from dragoman.audio.waveform import MAX_RATE, MIN_RATE, Waveform, resampled
from dragoman.cli.console import LOG
from dragoman.errors import AudioError, ConfigError, MissingDependencyError

_BLOCK = SAMPLING_RATE // 10  # samples of the microphone at a time
_EXTENSIBLE = 0xFFFE  # a WAV header with the sample format further on
_MAX_CHUNK = 1 << 24  # bytes of a chunk of a WAV header
_MAX_WAITING = 600  # blocks that may wait for a slow model: a minute


def sound_from(source: str, *, sampling_rate: int, microphone: str | None) -> Iterator[Waveform]:
    """Return blocks of samples at 16 kHz.

    Args:
        source: `mic`, or `-` for standard input.
        sampling_rate: Of raw samples on standard input, in hertz.
        microphone: Number or name; `None` for the system's.

    Raises:
        AudioError: If standard input is a terminal, or there is no microphone.
        ConfigError: If there is no such source.
        MissingDependencyError: If the package or library for microphones is not installed.
    """
    if source == "mic":
        return _microphone(_sounddevice(), microphone)
    if source != "-":
        raise ConfigError(
            f"`source` must be mic or -, but is {source!r}. Recordings are for `dragoman transcribe {source}`."
        )
    if sys.stdin is None:
        raise AudioError(
            "-: standard input is closed. Send samples to it: arecord -f S16_LE -r 16000 | dragoman listen -"
        )
    if sys.stdin.isatty():
        raise AudioError(
            "-: standard input is a terminal. Send samples to it: arecord -f S16_LE -r 16000 | dragoman listen -"
        )
    return _piped(sys.stdin.buffer, sampling_rate)


class _Pipe:
    """Standard input, read as soon as anything arrives; Ctrl-C ends it, as it ends a microphone."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held, self._ended = file, b"", False

    def peek(self, count: int) -> bytes:
        """Wait for `count` bytes, or the end, and return them without taking them."""
        try:
            while len(self._held) < count and not self._ended:
                data = self._file.read1(1 << 16)  # type: ignore[attr-defined]  # stdin has it
                self._held, self._ended = self._held + data, not data
        except KeyboardInterrupt:
            self._ended = True
        return self._held[:count]

    def take(self, count: int) -> bytes:
        """Wait for `count` bytes, or the end, and take them."""
        data = self.peek(count)
        self._held = self._held[count:]
        return data

    def available(self) -> bytes:
        """Take what has arrived, and wait only if that is nothing; empty at the end."""
        self.peek(1)
        return self.take(len(self._held))


class _Format(NamedTuple):
    """Format of a stream of 16-bit samples, and its number of bytes."""

    sampling_rate: int
    channels: int
    size: float = inf


def _piped(file: BinaryIO, sampling_rate: int) -> Iterator[Waveform]:
    """Return signed 16-bit little-endian samples as they arrive: raw mono ones, or those of a WAV stream."""
    pipe = _Pipe(file)
    container = _container(pipe)
    if container not in (None, "wav"):
        raise AudioError(
            f"-: is a recording ({container}), not samples. Send it to `dragoman transcribe -`, or decode it first: "
            "ffmpeg -i FILE -f s16le -ar 16000 -ac 1 - | dragoman listen -"
        )
    if len(pipe.peek(2)) < 2:
        raise AudioError("-: no samples came on standard input. Does the program before the | record and write there?")
    form = _wav_form(pipe) if container == "wav" else _Format(sampling_rate, 1)
    if not MIN_RATE <= form.sampling_rate <= MAX_RATE:
        raise AudioError(f"-: the sampling rate must be {MIN_RATE} to {MAX_RATE} Hz, but is {form.sampling_rate} Hz.")
    return resampled(_samples(pipe, form), form.sampling_rate, SAMPLING_RATE)


def _samples(pipe: _Pipe, form: _Format) -> Iterator[Waveform]:
    """Yield mono samples at the rate of the stream."""
    mixer = Mixer("-", form.sampling_rate, form.channels)
    rest, left = b"", form.size
    while left > 0 and (data := pipe.available()):
        data, left = rest + data[: int(min(left, len(data)))], left - len(data)
        whole = len(data) // (2 * form.channels) * 2 * form.channels
        rest = data[whole:]
        frames = np.frombuffer(data[:whole], "<i2").reshape(-1, form.channels)
        samples: Waveform = frames.mean(axis=1, dtype=np.float32) / np.float32(2**15)
        yield mixer.mix(frames.T / np.float32(2**15), samples)


def _container(pipe: _Pipe) -> str | None:
    """Return the kind of file that arrives; `None` for samples."""
    head = pipe.peek(64)
    if head[:3] == b"ID3":
        return "mp3"
    container = container_of(head)
    if container in ("mp3", "aac"):  # two bytes that samples may have too, but not again one frame later
        length = frame_length(head)
        return container if length and frame_length(pipe.peek(length + 4)[length:]) else None
    return container


def _wav_form(pipe: _Pipe) -> _Format:
    """Read the header of a WAV stream, up to its samples."""
    pipe.take(12)
    form = None
    while len(head := pipe.take(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data" and form is not None:
            return form._replace(size=size if 0 < size < UNKNOWN_SIZE else inf)  # unknown to a writer into a pipe
        if size > _MAX_CHUNK:
            break
        fields = pipe.take(size + size % 2)
        if name == b"fmt " and len(fields) >= 16:
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", fields[:16])
            kind = int.from_bytes(fields[24:26], "little") if kind == _EXTENSIBLE else kind
            if (kind, bits) != (1, 16) or not 1 <= channels <= 8:
                raise AudioError(
                    f"-: a WAV stream must have samples of 16 bits in 1 to 8 channels, but has {bits} bits in "
                    f"{channels}, format {kind}. Convert it: sox - -b 16 -t wav - | dragoman listen -"
                )
            form = _Format(rate, channels)
    raise AudioError("-: the WAV stream has a header, but no samples after it. Send them too, as they are recorded.")


def _sounddevice() -> Any:
    try:
        return require("sounddevice", "The microphone")
    except OSError as error:  # the package is installed, the system library is not
        raise MissingDependencyError(
            f"The microphone needs PortAudio: {error}. Install it (Debian: apt install libportaudio2), or send samples "
            "to standard input: dragoman listen -"
        ) from error


def _microphone(sounddevice: Any, name: str | None) -> Iterator[Waveform]:
    """Record until Ctrl-C, which ends the audio but not the program: what was said before is still transcribed."""
    blocks: queue.Queue[Waveform] = queue.Queue(_MAX_WAITING)

    def take(samples: Any, *_: Any) -> None:
        try:
            blocks.put_nowait(np.array(samples[:, 0]))
        except queue.Full:
            LOG.warning("The model is slower than real time: %.1f s of audio were lost.", len(samples) / SAMPLING_RATE)

    device = int(name) if name is not None and name.isdigit() else name
    try:
        with sounddevice.InputStream(
            samplerate=SAMPLING_RATE, channels=1, dtype="float32", blocksize=_BLOCK, device=device, callback=take
        ):
            LOG.info("Listening; Ctrl-C ends.")
            while True:
                yield blocks.get()
    except KeyboardInterrupt:
        return
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(
            f"The microphone cannot be used: {error}. `python -m sounddevice` lists the devices."
        ) from error
