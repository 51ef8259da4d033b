"""Live transcription: partial transcripts by local agreement while somebody speaks, and final ones.

The policy. Speech that is not yet part of a complete window is decoded again whenever another `interval_s` of it has
arrived. The words on which two consecutive hypotheses agree, counted from the beginning, become `text` and do not
change before the final transcript (local agreement: https://arxiv.org/abs/2005.11185, section 3.2); the words after
them are `tentative`. Once the window is complete, because of two seconds without speech or because it is full, it is
decoded once more like one of a recording: final transcripts are exactly those of `Transcriber.transcribe` for the same
audio and options, one window at a time.

The bounds. Memory use is little more than one window. A transcript is final at most one window (`chunk_length_s`), two
seconds and the decoding time after its words. Partial transcripts take at most half of the time, on any machine: after
one that took t seconds to decode, the next waits for 2 t of new speech.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.segment import WindowCutter
from dragoman.errors import ConfigError
from dragoman.transcriber.blocks import live_blocks
from dragoman.transcriber.decoding import WindowDecoder, cutting_rules, window_seconds
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import Segment, join_texts
from dragoman.transcriber.words import common_prefix, split_words


@dataclass(frozen=True, kw_only=True)
class LiveText:
    """The transcript of the latest speech; unless it is final, the next one replaces it.

    Attributes:
        text: The words; of a partial transcript, those agreed on.
        tentative: The words after them, of a partial transcript.
        is_final: Whether the window is complete.
        start: Start of the speech, in seconds from the beginning of the stream.
        end: Its end, or the latest sample so far.
        segments: Of a final transcript, as `transcribe` returns them.
    """

    text: str
    tentative: str = ""
    is_final: bool = False
    start: float
    end: float
    segments: tuple[Segment, ...] = ()


def live_texts(
    engine: Engine,
    chunks: Iterable[np.ndarray[Any, Any]],
    options: TranscribeOptions,
    interval_s: float,
    sampling_rate: int = SAMPLING_RATE,
) -> Iterator[LiveText]:
    """Transcribe a stream; see `Transcriber.stream`."""
    if not interval_s > 0:
        raise ConfigError(f"`interval_s` must be a number of seconds above 0, but is {interval_s}.")
    options = engine.with_own_values(options)
    cutter = WindowCutter(window_seconds(engine, options), **cutting_rules(options))
    decoder, partial = WindowDecoder(engine, options, "the stream"), _Partial(interval_s)
    for chunk in filter(np.size, live_blocks(chunks, sampling_rate)):  # a resampler may have nothing yet
        for window in cutter.push(chunk):
            yield from _final(decoder.push([window]))
        unfinished = cutter.unfinished()
        if unfinished is not None:
            yield from partial.update(decoder, *unfinished)
    for window in cutter.finish():
        yield from _final(decoder.push([window]))
    yield from _final(decoder.finish())


def _final(segments: list[Segment]) -> Iterator[LiveText]:
    if segments:
        text = join_texts(segment.text for segment in segments)
        start, end = segments[0].start, segments[-1].end
        yield LiveText(text=text, is_final=True, start=start, end=end, segments=tuple(segments))


class _Partial:
    """The hypotheses for a window that is not complete yet."""

    def __init__(self, interval_s: float) -> None:
        self._interval = interval_s
        self._start = -1  # of the window, in samples
        self._due = 0.0  # sample at which to decode again
        self._agreed: list[str] = []
        self._before: list[str] = []

    def update(self, decoder: WindowDecoder, start: int, samples: np.ndarray[Any, Any]) -> Iterator[LiveText]:
        """Decode the window so far, if that is due."""
        if start != self._start:
            self._start, self._due = start, start + self._interval * SAMPLING_RATE
            self._agreed, self._before = [], []
        end = start + len(samples)
        if end < self._due:
            return
        begin = time.monotonic()
        words = split_words(decoder.preview(samples))
        pause = max(self._interval, 2 * (time.monotonic() - begin))
        self._due = end + pause * SAMPLING_RATE
        self._agreed = agreement(self._agreed, self._before, words)
        self._before = words
        yield LiveText(
            text="".join(self._agreed).strip(),
            tentative="".join(words[len(self._agreed) :]).strip(),
            start=start / SAMPLING_RATE,
            end=end / SAMPLING_RATE,
        )


def agreement(agreed: list[str], before: list[str], words: list[str]) -> list[str]:
    """Return the words agreed on: the earlier ones, and those after them on which two hypotheses agree.

    Args:
        agreed: The words agreed on so far, which stay.
        before: All words of the last hypothesis.
        words: All words of this one, with the blanks before them.
    """
    plain = [["".join(filter(str.isalnum, word.casefold())) for word in one] for one in (before, words)]
    return [*agreed, *words[len(agreed) : common_prefix(*plain)]]
