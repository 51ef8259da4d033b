"""Sound as it comes: from a microphone, or as raw samples from another program."""

import queue
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import soxr

from dragoman._lazy import require
from dragoman.audio.waveform import Waveform
from dragoman.cli.console import LOG
from dragoman.errors import AudioError, ConfigError, MissingDependencyError

__all__ = ["sound_from"]

_RATE = 16_000
_BLOCK = _RATE // 10  # samples of the microphone at a time
_WAITING = 600  # blocks that may wait for a slow model: a minute


def sound_from(source: str, *, sampling_rate: int, microphone: str | None) -> Iterator[Waveform]:
    """Return blocks of samples at 16 kHz.

    Args:
        source: `mic`, or `-` for standard input.
        sampling_rate: Of standard input, in hertz.
        microphone: Number or name; `None` for the system's.

    Raises:
        AudioError: If standard input is a terminal, or there is no microphone.
        ConfigError: If there is no such source.
        MissingDependencyError: If what microphones need is not installed.
    """
    if source == "mic":
        return _microphone(_sounddevice(), microphone)
    if source != "-":
        raise ConfigError(
            f"`source` must be mic or -, but is {source!r}. Recordings are for `dragoman transcribe {source}`."
        )
    if sys.stdin.isatty():
        raise AudioError(
            "-: standard input is a terminal. Send samples to it: arecord -f S16_LE -r 16000 | dragoman listen -"
        )
    return _raw(sys.stdin.buffer, sampling_rate)


def _raw(file: BinaryIO, sampling_rate: int) -> Iterator[Waveform]:
    """Read signed 16-bit little-endian mono samples as soon as there are any."""
    resampler = None if sampling_rate == _RATE else soxr.ResampleStream(sampling_rate, _RATE, num_channels=1)
    rest = b""
    while data := file.read1(1 << 16):  # type: ignore[attr-defined]  # stdin has it
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        samples: Waveform = np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(2**15)
        yield samples if resampler is None else resampler.resample_chunk(samples)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _sounddevice() -> Any:
    try:
        return require("sounddevice", "The microphone")
    except OSError as error:  # the package is there, the system's library is not
        raise MissingDependencyError(
            f"The microphone needs PortAudio: {error}. Install it (Debian: apt install libportaudio2), or send samples "
            "to standard input: dragoman listen -"
        ) from error


def _microphone(sounddevice: Any, name: str | None) -> Iterator[Waveform]:
    """Record until Ctrl-C, which ends the sound and not the program: what was said before is still written."""
    blocks: queue.Queue[Waveform] = queue.Queue(_WAITING)

    def take(samples: Any, *_: Any) -> None:
        try:
            blocks.put_nowait(np.array(samples[:, 0]))
        except queue.Full:
            LOG.warning("The model is slower than the speech: %.1f s were lost.", len(samples) / _RATE)

    device = int(name) if name is not None and name.isdigit() else name
    try:
        with sounddevice.InputStream(
            samplerate=_RATE, channels=1, dtype="float32", blocksize=_BLOCK, device=device, callback=take
        ):
            LOG.info("Listening; Ctrl-C ends.")
            while True:
                yield blocks.get()
    except KeyboardInterrupt:
        return
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(
            f"The microphone cannot be used: {error}. `python -m sounddevice` lists what there is."
        ) from error
