"""The audio of an utterance: a file or a part of one, read through `dragoman.audio`."""

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import soundfile

from dragoman.audio.reading import io as reading
from dragoman.audio.waveform import Waveform, as_waveform
from dragoman.data.formats.huggingface import SCHEME, audio_bytes
from dragoman.data.utterance import Utterance
from dragoman.errors import AudioError

# A file within an archive that is stored without compression, as fairseq writes it: archive:offset:length in bytes.
IN_ARCHIVE = re.compile(r"^(?P<archive>.+\.(?:zip|tar)):(?P<start>\d+):(?P<length>\d+)$")

_SHORTER = 0.5  # seconds that a recording may lack at its end: durations in manifests are rounded


def load_audio(utterance: Utterance, sampling_rate: int) -> Waveform:
    """Read the audio of an utterance.

    Args:
        utterance: The item.
        sampling_rate: Of the result, in hertz.

    Returns:
        Mono float32 samples `[samples]`.

    Raises:
        AudioError: If the file is missing, broken, or shorter than the utterance; the message begins with the line of
            the manifest.
    """
    try:
        return _part(utterance, sampling_rate)
    except AudioError as error:
        if not utterance.source:
            raise
        raise AudioError(f"{utterance.source}: {error}") from error


def _part(utterance: Utterance, sampling_rate: int) -> Waveform:
    source = source_of(utterance.audio)
    if utterance.offset == 0 and utterance.duration is None:
        return reading.load_audio(source, sampling_rate=sampling_rate)
    sought = _by_seeking(utterance, sampling_rate) if utterance.offset > 0 else None
    if sought is not None:
        return sought
    first = round(utterance.offset * sampling_rate)
    last = None if utterance.duration is None else first + round(utterance.duration * sampling_rate)
    blocks, done = [], 0
    for block in reading.stream_audio(source, sampling_rate=sampling_rate):
        stop = len(block) if last is None else last - done
        blocks.append(block[max(first - done, 0) : max(stop, 0)])
        done += len(block)
        if last is not None and done >= last:
            break
    lacking = (first + 1 if last is None else last) - done
    if lacking > (0 if last is None else _SHORTER * sampling_rate) or done <= first:
        until = "" if utterance.duration is None else f" to {utterance.offset + utterance.duration:.2f} s"
        raise AudioError(
            f"{utterance.audio}: lasts {done / sampling_rate:.2f} s, but the utterance {utterance.id} is from "
            f"{utterance.offset:.2f} s{until}. Correct its offset and duration."
        )
    return np.concatenate(blocks)


def _by_seeking(utterance: Utterance, sampling_rate: int) -> Waveform | None:
    """Return a part of a file without decoding what comes before it, where this is exact: mono WAV and FLAC.

    `None` where it is not, or anything is odd: reading from the beginning then gives the samples or the error.
    """
    try:
        with soundfile.SoundFile(utterance.audio) as file:
            rate, first = file.samplerate, round(utterance.offset * file.samplerate)
            count = -1 if utterance.duration is None else round(utterance.duration * rate)
            if file.format not in ("WAV", "FLAC") or file.channels != 1 or not first + max(count, 1) <= file.frames:
                return None
            file.seek(first)
            samples = file.read(count, dtype="float32")
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        return None
    if len(samples) < max(count, 1):
        return None
    return as_waveform(samples, sampling_rate=rate, target_sampling_rate=sampling_rate)


def source_of(audio: str) -> Any:
    """Return the argument of the audio readers for an address."""
    if audio.startswith(SCHEME):
        return audio_bytes(audio)
    found = IN_ARCHIVE.match(audio)
    if found is None:
        return audio
    start, length = int(found["start"]), int(found["length"])
    try:
        with open(found["archive"], "rb") as archive:
            archive.seek(start)
            content = archive.read(length)
    except OSError as error:
        raise AudioError(f"{found['archive']}: cannot be read: {error.strerror or error}.") from error
    if len(content) < length:
        raise AudioError(f"{audio}: the archive ends before it. Copy the archive again.")
    return content


def seconds_by_header(address: str) -> float | None:
    """Return the length of an audio file by its header, or `None` if only decoding can tell."""
    try:
        source = source_of(address)
        information = soundfile.info(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (AudioError, soundfile.SoundFileError, OSError, TypeError, ValueError):
        return None
    return float(information.frames / information.samplerate) if information.frames > 0 else None


def with_duration(utterance: Utterance) -> Utterance:
    """Return an utterance whose duration is known: as written, by the file's header, or by decoding it.

    Raises:
        AudioError: If the file is missing or broken.
    """
    if utterance.duration is not None:
        return utterance
    whole = seconds_by_header(utterance.audio)
    if whole is None or whole <= utterance.offset:
        return replace(utterance, duration=len(load_audio(utterance, _RATE)) / _RATE)
    return replace(utterance, duration=whole - utterance.offset)


_RATE = 16_000
