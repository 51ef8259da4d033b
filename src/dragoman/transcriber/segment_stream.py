"""The segments of one recording, decoded as they are asked for, in memory that does not grow with its length."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.segment import Window, speech_windows
from dragoman.audio.waveform import Waveform
from dragoman.errors import tells_memory
from dragoman.transcriber.blocks import Audio, blocks_of
from dragoman.transcriber.decoding import WindowDecoder, cutting_rules, window_seconds
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import Segment, Timings, Transcript, join_texts
from dragoman.transcriber.segmenting import Examined


class SegmentStream(Iterator[Segment]):
    """The segments of one recording, decoded as they are asked for."""

    def __init__(
        self,
        engine: Engine,
        audio: Audio,
        sampling_rate: int | None,
        options: TranscribeOptions,
        examine: Callable[[Examined], object] | None = None,
    ) -> None:
        self._engine = engine
        self._options = engine.with_own_values(options)
        name = str(audio) if isinstance(audio, str | os.PathLike) else "the audio"
        self._decoder = WindowDecoder(engine, self._options, name, examine)
        self._samples_read = 0
        self._windows = speech_windows(
            self._counted(blocks_of(audio, sampling_rate, options)),
            window_seconds(engine, options),
            **cutting_rules(options),
        )
        self._made: list[Segment] = []
        self._reading = self._decoding = 0.0  # seconds
        self._source = self._segments()

    @property
    def language(self) -> str | None:
        """Code of the spoken language, as soon as it is known; `None` if the model takes none."""
        return self._decoder.language

    @property
    def position(self) -> float:
        """Seconds of audio transcribed so far."""
        return self._made[-1].end if self._made else 0.0

    @property
    def duration(self) -> float:
        """Seconds of audio read so far; the length of the recording once the segments are exhausted."""
        return self._samples_read / SAMPLING_RATE

    @tells_memory("The recording", "Use a smaller `batch_size`, fewer beams, or a smaller model.")
    def __next__(self) -> Segment:
        segment = next(self._source)
        self._made.append(segment)
        return segment

    def transcript(self) -> Transcript:
        """Decode the rest and return the whole transcript, the segments taken before included."""
        for _ in self:
            pass
        return Transcript(
            text=join_texts(segment.text for segment in self._made),
            segments=tuple(self._made),
            language=self.language,
            duration=self.duration,
            model=self._engine.info,
            parameters=asdict(self._options),
            timings=Timings(reading=self._reading, decoding=self._decoding),
        )

    def _counted(self, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
        for block in blocks:
            start = self._samples_read
            self._samples_read += len(block)
            yield block if self._options.clip_timestamps is None else _clipped(block, start, self._options)

    def _segments(self) -> Iterator[Segment]:
        while batch := self._next_windows(self._decoder.windows_at_once):
            begin = self._engine.clock()
            segments = self._decoder.push(batch)
            self._decoding += self._engine.clock() - begin
            yield from segments
        yield from self._decoder.finish()

    def _next_windows(self, most: int) -> list[tuple[Window, Waveform]]:
        begin = time.perf_counter()
        batch = list(islice(self._windows, most))
        self._reading += time.perf_counter() - begin
        return batch


def _clipped(block: Waveform, start: int, options: TranscribeOptions) -> Waveform:
    """Return a block that begins at sample `start` with silence outside the clips."""
    times = (start + np.arange(len(block))) / SAMPLING_RATE
    kept = np.logical_or.reduce([(first <= times) & (times < last) for first, last in options.clips])
    clipped: Waveform = np.where(kept, block, 0).astype(np.float32)
    return clipped
