"""Reading audio: files of any sampling rate and number of channels as mono float32 samples at the model's rate.

`load_audio` reads a whole file, `stream_audio` blocks of a long one, and `as_waveform` converts arrays.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.reading.damage import Damage
from dragoman.audio.reading.decode import decode
from dragoman.audio.reading.source import AudioSource, open_audio
from dragoman.audio.waveform import Waveform, check_rate, resampled
from dragoman.errors import AudioError, tells_memory


@tells_memory("The recording", "Read it in blocks, as `Transcriber` does: `stream_audio`.")
def load_audio(
    source: AudioSource,
    *,
    sampling_rate: int = SAMPLING_RATE,
    max_seconds: float | None = None,
    audio_track: int | None = None,
    on_damage: Literal["stop", "skip"] = "stop",
) -> Waveform:
    """Read a whole recording.

    Args:
        source: A path, the bytes of a file, or a binary file object (`sys.stdin.buffer` for standard input). WAV,
            FLAC, OGG (Vorbis, Opus), MP3, AIFF, AU, CAF, W64 and NIST SPHERE are built in; M4A, MP4, WebM, AAC, WMA and
            more need the extra `media`. The format is recognised by content, not by name.
        sampling_rate: Of the result, in hertz; soxr resamples.
        max_seconds: Longest duration; a longer file is an error as soon as it is detected. Set it for untrusted files:
            a few megabytes can hold days of silence.
        audio_track: Number of the audio track, from 1, in a file with several; by default the one that the file marks
            as default, otherwise the first.
        on_damage: `"stop"` makes a damaged or truncated file an error; `"skip"` reads past the damage, fills it with
            silence where the file says how long it is, and warns with the seconds lost.

    Returns:
        Mono float32 samples `[samples]` around -1…1, the mean of all channels; `n` samples at rate `r` become
        `round(n * sampling_rate / r)`. Where the mean cancels the channels, because one is inverted, the loudest one is
        used instead, with a warning. Times are those of the container: audio that begins late, and holes in it, are
        preceded by silence.

    Raises:
        AudioError: If the file is missing, empty, truncated, malformed, too long, not audio, or has values that are not
            finite. The message is one line with the file, the cause and the remedy.
        MissingDependencyError: If the file needs the extra `media`.
    """
    blocks = stream_audio(
        source, sampling_rate=sampling_rate, max_seconds=max_seconds, audio_track=audio_track, on_damage=on_damage
    )
    return np.concatenate(list(blocks))


def stream_audio(
    source: AudioSource,
    *,
    sampling_rate: int = SAMPLING_RATE,
    block_seconds: float = 10.0,
    max_seconds: float | None = None,
    audio_track: int | None = None,
    on_damage: Literal["stop", "skip"] = "stop",
) -> Iterator[Waveform]:
    """Read a recording block by block, in constant memory.

    Concatenated, the blocks equal the result of `load_audio`. An error may be raised after valid blocks: a truncated
    file is only detected at its end.

    Args:
        source: As for `load_audio`.
        sampling_rate: Of the result, in hertz.
        block_seconds: Length of a block; the last one is shorter.
        max_seconds: As for `load_audio`.
        audio_track: As for `load_audio`.
        on_damage: As for `load_audio`.

    Yields:
        Mono float32 samples `[samples]`, never empty.

    Raises:
        AudioError: As for `load_audio`.
        MissingDependencyError: As for `load_audio`.
    """
    _check(sampling_rate, block_seconds, max_seconds, audio_track, on_damage)
    block = max(1, round(min(block_seconds, 3600.0) * sampling_rate))
    limit = None if max_seconds is None else max_seconds * sampling_rate
    total, damage = 0, Damage(skip=on_damage == "skip")
    with open_audio(source) as audio:
        streams = decode(audio, damage, audio_track)
        parts = chain.from_iterable(resampled(one.blocks, one.sampling_rate, sampling_rate) for one in streams)
        for samples in _rebatch(parts, block):
            total += len(samples)
            if limit is not None and total > limit:
                raise AudioError(
                    f"{audio.name}: is longer than the limit of {max_seconds:g} s. Split it into shorter files."
                )
            yield samples
        if total == 0:
            raise AudioError(f"{audio.name}: has no samples. Record or export the audio again.")
        damage.warn(audio.name, total / sampling_rate)


def _check(
    sampling_rate: Any, block_seconds: float, max_seconds: float | None, audio_track: Any, on_damage: Any
) -> None:
    check_rate("sampling_rate", sampling_rate)
    if not block_seconds > 0:
        raise AudioError(f"`block_seconds` must be more than 0, but is {block_seconds!r}.")
    if max_seconds is not None and not (isinstance(max_seconds, int | float) and max_seconds > 0):
        raise AudioError(f"`max_seconds` must be more than 0 or None, but is {max_seconds!r}.")
    if audio_track is not None and (not isinstance(audio_track, int) or audio_track < 1):
        raise AudioError(f"`audio_track` must be a number from 1 up or None, but is {audio_track!r}.")
    if on_damage not in ("stop", "skip"):
        raise AudioError(f"`on_damage` must be 'stop' or 'skip', but is {on_damage!r}.")


def _rebatch(parts: Iterable[Waveform], length: int) -> Iterator[Waveform]:
    """Regroup `parts` into blocks of `length` samples, the last one shorter."""
    held: list[Waveform] = []
    count = 0
    for part in parts:
        while count + len(part) >= length:
            head, part = part[: length - count], part[length - count :]
            yield np.concatenate([*held, head])
            held, count = [], 0
        held.append(part)
        count += len(part)
    if count:
        yield np.concatenate(held)
