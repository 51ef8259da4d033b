"""Decoding an audio file to blocks of mono samples at its own sampling rate.

There are two decoders: libsndfile (through soundfile) and, for other formats and encodings, FFmpeg (`ffmpeg`). Both
are read forward, block by block, and no allocation depends on a header.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import soundfile

from dragoman.audio.reading.containers import Layout, inspect
from dragoman.audio.reading.damage import Damage, damaged, truncated
from dragoman.audio.reading.ffmpeg import MediaFile
from dragoman.audio.reading.mix import Mixer
from dragoman.audio.reading.ranges import ByteRanges, Piece
from dragoman.audio.reading.source import AudioFile
from dragoman.audio.waveform import MAX_RATE, MIN_RATE, Waveform, check_samples
from dragoman.errors import AudioError, MissingDependencyError

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


def decode(audio: AudioFile, damage: Damage, track: int | None = None) -> Iterator[DecodedStream]:
    """Yield the streams of a file, nearly always one; each must be consumed before the next.

    Args:
        audio: The file.
        damage: Where faults are reported.
        track: Number of the audio track, from 1; `None` is the default one.

    Raises:
        AudioError: If the file is malformed, truncated, or has samples that are not finite.
        MissingDependencyError: If only PyAV can read it and is not installed.
    """
    layout = inspect(audio, damage)
    for pieces in layout.parts:
        if layout.needs_ffmpeg:
            yield from _decode_media(audio, MediaFile(audio, layout.container, pieces, damage, track))
        else:
            yield from _decode_soundfile(audio, layout, pieces, damage, track)


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


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A sound file that is never rewound.

    soundfile seeks after every read of a seekable file. This fails on FLAC of unknown length, and corrupts MP3 at block
    borders, since its frames use bits of earlier ones. It also stops at the number of samples estimated at the start.
    """

    def seekable(self) -> bool:
        return False


_ENDLESS = 1 << 40  # bytes; the true end comes first


# FFmpeg's names of containers for which it knows encodings that libsndfile does not, or gets past damage.
_UNKNOWN_ENCODING = (4, 18, 64)  # libsndfile's errors for unsupported encodings; 64 is for those of WAV
_DEMUXERS = {
    "wav": "wav",
    "w64": "w64",
    "aiff": "aiff",
    "caf": "caf",
    "ogg": "ogg",
    "au": "au",
    "flac": "flac",
    "mp3": "mp3",
}


def _decode_media(audio: AudioFile, media: MediaFile) -> Iterator[DecodedStream]:
    with closing(media):
        _check_format(audio, media.sampling_rate, media.channels)
        mixer = Mixer(audio.name, media.sampling_rate, media.channels)
        blocks = (_mono(audio, mixer, block, media.sampling_rate) for block in media.blocks())
        yield DecodedStream(sampling_rate=media.sampling_rate, blocks=blocks)


def _decode_soundfile(
    audio: AudioFile, layout: Layout, pieces: list[Piece], damage: Damage, track: int | None
) -> Iterator[DecodedStream]:
    try:
        file = _ForwardSoundFile(ByteRanges(audio, pieces, claimed=None if layout.trusted else _ENDLESS))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        cause = str(error).partition(": ")[2].rstrip(".") or str(error)
        refusal = AudioError(
            f"{audio.name}: is malformed or in an unknown encoding: {cause} (container: "
            f"{layout.container}). Try `ffmpeg -i INPUT output.wav`."
        )
        refusal.__cause__ = error
        if layout.container != "ogg" and getattr(error, "code", 0) not in _UNKNOWN_ENCODING:
            raise refusal from error
        yield from _decode_otherwise(audio, layout, pieces, damage, track, refusal)
        return
    with file:
        _check_format(audio, file.samplerate, file.channels)
        if track not in (None, 1):
            raise AudioError(f"{audio.name}: has one audio track, but `audio_track` is {track}. Leave it out.")
        yield DecodedStream(
            sampling_rate=file.samplerate, blocks=_soundfile_blocks(audio, file, layout, pieces, damage)
        )


def _decode_otherwise(
    audio: AudioFile, layout: Layout, pieces: list[Piece], damage: Damage, track: int | None, refusal: AudioError
) -> Iterator[DecodedStream]:
    """Let FFmpeg try a file that libsndfile has refused.

    Raises:
        AudioError: `refusal`, if FFmpeg refuses it as well.
    """
    try:
        if layout.container not in _DEMUXERS:
            raise refusal
        media = MediaFile(audio, _DEMUXERS[layout.container], pieces, damage, track)
    except MissingDependencyError as error:
        raise AudioError(f"{refusal} {error}") from refusal
    except AudioError as error:
        raise (error if "`audio_track`" in str(error) else refusal) from refusal.__cause__
    yield from _decode_media(audio, media)


def _soundfile_blocks(
    audio: AudioFile, file: soundfile.SoundFile, layout: Layout, pieces: list[Piece], damage: Damage
) -> Iterator[Waveform]:
    length, done = _BLOCK_VALUES // file.channels, 0
    mixer = Mixer(audio.name, file.samplerate, file.channels)
    while True:
        try:
            block = file.read(length, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            fault = damaged(audio, done / file.samplerate, str(error).rstrip(".") or "the decoder gave up")
            fault.__cause__ = error
            damage.report(fault)
            for rest in _blocks_after(audio, layout, pieces, damage, done):
                yield _mono(audio, mixer, rest, file.samplerate)
                done += rest.shape[1]
            break
        if len(block) == 0:
            break
        yield _mono(audio, mixer, block.T, file.samplerate)
        done += len(block)
    # The length of an MP3, also in a WAV, includes samples that its decoder removes.
    exact = layout.trusted and "MPEG" not in file.subtype
    if exact and done < file.frames < _ENDLESS:
        damage.report(truncated(audio, f"its header gives {file.frames} samples, but there are only {done}"))
        damage.lost += (file.frames - done) / file.samplerate


def _blocks_after(audio: AudioFile, layout: Layout, pieces: list[Piece], damage: Damage, done: int) -> Iterator[Any]:
    """Yield what follows the first `done` samples as far as FFmpeg can decode it: libsndfile stops at damage."""
    if layout.container not in _DEMUXERS:
        return
    try:
        with closing(MediaFile(audio, _DEMUXERS[layout.container], pieces, damage)) as media:
            yield from media.blocks(done, contiguous=True)
    except (AudioError, MissingDependencyError) as error:
        damage.faults.append(str(error))


def _mono(audio: AudioFile, mixer: Mixer, channels: Any, sampling_rate: int) -> Waveform:
    """Return the next block `channels` `[channels, samples]` mixed down and checked."""
    mean = mixer.mean(channels)
    check_samples(mean, f"{audio.name}: ", sampling_rate, first=mixer.done)
    return mixer.mix(channels, mean)
