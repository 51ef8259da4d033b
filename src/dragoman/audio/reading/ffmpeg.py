"""Decoding a media file to blocks of samples by FFmpeg (through PyAV, an optional package).

The container's clock decides where a sample is: audio that begins after the picture, and holes between packets, are
preceded by silence. Recognising the container is the task of `containers`, mixing and checking samples that of
`decode`.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from dragoman._lazy import require
from dragoman.audio.reading.damage import Damage, damaged, truncated
from dragoman.audio.reading.ranges import ByteRanges, Piece
from dragoman.audio.reading.source import AudioFile
from dragoman.errors import AudioError

# FFmpeg estimates their duration, or has it from an index without a clock; `sizes` notices if the end is missing.
_NO_DURATION = frozenset({"aac", "amr", "g722", "ac3", "eac3", "dts", "mpegts", "mpeg", "avi", "matroska", "asf", "rm"})
_EXACT = frozenset({"wv", "tta", "ape", "flac", "caf"})  # headers with a number of samples
_UNTIMED = frozenset({"avi", "rm"})  # time stamps follow from counts; only that of the beginning means something
_RESTARTING = frozenset({"mpegts", "mpeg"})  # their clocks may start again in the middle

_TOLERANCE = 0.1  # seconds between time stamp and count of samples: rounding, and samples that decoders hold back
_MAX_JUMP = 600.0  # seconds; a clock that may restart and jumps further has done so
_MAX_HOLE = 12 * 3600.0  # seconds, where no duration limits it
_SILENCE = 1 << 16  # samples of silence per block


class MediaFile:
    """The audio of an open media file.

    Args:
        audio: The file.
        demuxer: FFmpeg's name of the container.
        pieces: The parts of the file to read.
        damage: Where faults are reported.
        track: Number of the audio track, from 1; `None` is the default one.

    Attributes:
        sampling_rate: In hertz, according to the header.
        channels: Number of channels, according to the header.

    Raises:
        AudioError: If the file cannot be opened, or has no such track.
        MissingDependencyError: If PyAV is not installed.
    """

    def __init__(
        self, audio: AudioFile, demuxer: str, pieces: list[Piece], damage: Damage, track: int | None = None
    ) -> None:
        self._av = require("av", f"Reading {audio.name} (M4A, MP4, WebM, AAC, …)")
        self._audio, self._demuxer, self._damage = audio, demuxer, damage
        self._position = 0  # in samples
        with self._errors():
            stream = io.BufferedReader(ByteRanges(audio, pieces))
            self._container = self._av.open(stream, format=demuxer, metadata_errors="ignore")
        self._track = self._chosen(track)
        context = self._track.codec_context
        if context is None:
            raise AudioError(f"{audio.name}: its audio is in an encoding unknown to FFmpeg. Export it as FLAC.")
        self.sampling_rate, self.channels = int(context.sample_rate), int(context.channels)
        self._origin = (self._container.start_time or 0) / 1e6  # seconds; FFmpeg counts microseconds
        self._latest = 0.0  # end of the last packet, of any stream, in seconds
        self._begun = False
        self._source: Iterator[Any] = self._frames()
        if not context.sample_rate:  # audio that begins late: FFmpeg has not seen any yet
            self._look_ahead()

    def close(self) -> None:
        """Close the container, but not the file."""
        self._container.close()

    def blocks(self, skip: int = 0, *, contiguous: bool = False) -> Iterator[Any]:
        """Yield blocks `[channels, samples]` of float32; iterated once.

        Args:
            skip: Number of samples at the beginning that are left out.
            contiguous: Whether a hole can only be damage.

        Raises:
            AudioError: If the file is damaged or truncated.
        """
        self._position, fault = skip, False
        contiguous = contiguous or self._demuxer in _EXACT or (self._demuxer == "ogg" and bool(self._damage.faults))
        convert = _Converter(self._av, self.sampling_rate, self.channels)
        for frame in self._source:
            if frame is None:
                fault = True
                continue
            gap = self._gap(frame, exact=fault or contiguous)
            if gap > 0 and (fault or contiguous):
                if not fault:
                    self._damage.report(damaged(self._audio, self._seconds, "a part is missing"))
                self._damage.lost += gap / self.sampling_rate
            yield from self._silence(gap)
            with self._errors():
                blocks = convert(frame)
            for block in blocks:
                kept = block[:, min(-gap, block.shape[1]) :] if contiguous and gap < 0 else block
                self._position += kept.shape[1]
                yield kept
            fault = False
        with self._errors():
            blocks = convert(None)
        for block in blocks:
            self._position += block.shape[1]
            yield block
        self._check_end()

    @property
    def _seconds(self) -> float:
        return self._position / self.sampling_rate if self._position else 0.0

    def _look_ahead(self) -> None:
        """Take sampling rate and channels from the first frame."""
        for frame in self._source:
            if frame is not None:
                self.sampling_rate, self.channels = int(frame.sample_rate), len(frame.layout.channels)
                self._source = chain([frame], self._source)
                return

    def _chosen(self, track: int | None) -> Any:
        """Return the audio track with a number; by default the one that the container marks, otherwise the first."""
        tracks, name = self._container.streams.audio, self._audio.name
        if not tracks:
            kinds = " and ".join(sorted({stream.type for stream in self._container.streams})) or "an empty container"
            raise AudioError(f"{name}: has no audio, only {kinds}. Pass a file with an audio track.")
        labels = [f"{place}{_label(one)}" for place, one in enumerate(tracks, start=1)]
        if track is not None:
            if not 1 <= track <= len(tracks):
                raise AudioError(
                    f"{name}: has {len(tracks)} audio tracks ({', '.join(labels)}), but `audio_track` is {track}."
                )
            return tracks[track - 1]
        default = self._av.stream.Disposition.default
        place = next((place for place, one in enumerate(tracks) if one.disposition & default), 0)
        if len(tracks) > 1:
            warnings.warn(
                f"{name}: has {len(tracks)} audio tracks ({', '.join(labels)}); {place + 1} is used. `audio_track` "
                "chooses another one.",
                UserWarning,
                stacklevel=2,
            )
        return tracks[place]

    def _frames(self) -> Iterator[Any]:
        """Yield the decoded frames, and `None` for a packet that cannot be decoded."""
        packets = self._container.demux()  # of all streams: the others tell how long the recording is
        while True:
            try:
                with self._errors():
                    packet = next(packets, None)
            except AudioError as error:
                self._damage.report(error)
                return
            if packet is None:
                return
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._origin
                self._latest = max(self._latest, end)
            if packet.stream_index != self._track.index:
                continue
            try:
                with self._errors():
                    frames = packet.decode()
            except AudioError as error:
                self._damage.report(error)
                frames = [None]
            yield from frames

    def _gap(self, frame: Any, *, exact: bool) -> int:
        """Return how many samples are missing before `frame` according to the clock; negative if it comes too early."""
        if frame.pts is None:
            return 0
        begun, self._begun = self._begun, True
        gap = float(frame.pts * frame.time_base) - self._origin - self._position / self.sampling_rate
        if exact:
            return round(min(gap, self._max_hole()) * self.sampling_rate)
        if abs(gap) <= _TOLERANCE:
            return 0
        if gap < 0 or gap > self._max_hole() or (begun and self._demuxer in _UNTIMED):
            self._origin += gap  # the clock has restarted
            return 0
        return round(gap * self.sampling_rate)

    def _max_hole(self) -> float:
        if self._demuxer in _RESTARTING:
            return _MAX_JUMP
        stated = (self._container.duration or 0) / 1e6
        return stated + 1 - self._position / self.sampling_rate if stated > 0 else _MAX_HOLE

    def _silence(self, length: int) -> Iterator[Any]:
        while length > 0:
            part = min(length, _SILENCE)
            self._position += part
            length -= part
            yield np.zeros((self.channels, part), np.float32)

    def _check_end(self) -> None:
        """Compare the end of the audio with the duration in the header, if that is its own or the end of all streams.

        Raises:
            AudioError: If the audio ends too early.
        """
        if self._demuxer in _NO_DURATION:
            return
        end, track = self._position / self.sampling_rate, self._track
        if self._demuxer == "mov" and track.duration:
            stated = float(((track.start_time or 0) + track.duration) * track.time_base) - self._origin
        else:
            stated, end = (self._container.duration or 0) / 1e6, max(end, self._latest)
        if end < (stated - _TOLERANCE if self._demuxer in _EXACT else 0.98 * stated - 1):
            self._damage.report(
                truncated(self._audio, f"its header gives {stated:.2f} s of audio, but there are only {end:.2f} s")
            )
            self._damage.lost += stated - end

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._av.error.FFmpegError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise damaged(self._audio, self._seconds, cause) from error


class _Converter:
    """Converts frames to blocks `[channels, samples]` of float32 of one rate and layout, whatever they change to."""

    def __init__(self, av: Any, sampling_rate: int, channels: int) -> None:
        self._av, self._rate, self._channels = av, sampling_rate, channels
        self._resampler: Any = None
        self._format: Any = None
        self._layout: Any = None

    def __call__(self, frame: Any) -> list[Any]:
        """Convert a frame; `None` returns the rest."""
        parts: list[Any] = []
        if frame is not None:
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if found != self._format:
                parts += [] if self._resampler is None else self._resampler.resample(None)
                self._layout = self._layout or frame.layout.name
                # Interleaved, since PyAV crashes on planar samples of some malformed files.
                self._resampler = self._av.AudioResampler(format="flt", layout=self._layout, rate=self._rate)
                self._format = found
        if self._resampler is not None:
            parts += self._resampler.resample(frame)
        return [part.to_ndarray().reshape(-1, self._channels).T for part in parts]


def _label(track: Any) -> str:
    """Return the language and title of a track, for messages."""
    words = [track.language, track.metadata.get("title")]
    known = " ".join(word for word in words if word and word != "und")
    return f" {known}" if known else ""
