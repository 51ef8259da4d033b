"""How to cut a recording into windows that a model can take, without losing a word.

Stretches of speech (`speech`) that are near each other are packed into a `Window` as long as they fit. One that would
not fit has been cut at its longest pause or, if its speaker never pauses, where it is quietest: no speech is left out,
and none comes twice. `speech_windows` does it on a stream and keeps little more than one window in memory, however
long the recording.

Times are samples at 16 kHz.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from dragoman.audio.speech import SHORTEST_WINDOW, Detector, Rules, Span, find_speech
from dragoman.audio.vad import SAMPLING_RATE, load_speech_net
from dragoman.audio.waveform import Waveform, as_float32
from dragoman.errors import ConfigError

__all__ = ["Span", "Window", "find_speech", "plan_windows", "speech_windows"]


@dataclass(frozen=True)
class Window:
    """Neighbouring spans that are decoded together, with the silence between them.

    Attributes:
        spans: In order, at least one.
    """

    spans: tuple[Span, ...]

    @property
    def start(self) -> int:
        """First sample."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """Sample after the last."""
        return self.spans[-1].end

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / SAMPLING_RATE, self.end / SAMPLING_RATE


def plan_windows(spans: Iterable[Span], max_seconds: float, *, max_gap_s: float = 2.0) -> list[Window]:
    """Pack neighbouring spans into windows.

    Args:
        spans: In order, not overlapping, none longer than `max_seconds` (`find_speech` cuts them: `max_speech_s`).
        max_seconds: What the model can take.
        max_gap_s: Spans further apart go into different windows: models invent words for long silence.

    Returns:
        Windows in order, none longer than `max_seconds`, that together hold all spans.

    Raises:
        ConfigError: If the spans are not as they should be.
    """
    return list(_pack(spans, max_seconds, max_gap_s))


def speech_windows(
    blocks: Iterable[Waveform],
    max_seconds: float,
    *,
    threshold: float = 0.5,
    min_speech_ms: float = 100,
    max_speech_s: float = inf,
    min_silence_ms: float = 160,
    pad_ms: float = 200,
    max_gap_s: float = 2.0,
) -> Iterator[tuple[Window, Waveform]]:
    """Cut a stream of audio into windows of speech, each with its samples, as soon as they are complete.

    Args:
        blocks: Samples at 16 kHz, as from `stream_audio`.
        max_seconds: What the model can take.
        threshold: As of `find_speech`, and so are the following four.
        min_speech_ms: See there.
        max_speech_s: See there.
        min_silence_ms: See there.
        pad_ms: See there.
        max_gap_s: As of `plan_windows`.

    Yields:
        Window, and its samples `[window.end - window.start]`.

    Raises:
        AudioError: If the audio is not mono, or not finite.
        ConfigError: If a number is out of range.
    """
    rules = Rules.of(threshold, min_speech_ms, min(max_speech_s, max_seconds), min_silence_ms, pad_ms)
    detector, tape = Detector(rules, load_speech_net()), _Tape()

    def spans() -> Iterator[Span]:
        for block in blocks:
            yield from detector.push(tape.record(as_float32(block)))
            yield Span(detector.horizon, detector.horizon)  # nothing: no span to come starts earlier
            tape.forget_before(detector.horizon - round(max_seconds * SAMPLING_RATE))
        yield from detector.finish()

    for window in _pack(spans(), max_seconds, max_gap_s):
        yield window, tape.play(window.start, window.end)


def _pack(spans: Iterable[Span], max_seconds: float, max_gap_s: float) -> Iterator[Window]:
    """Pack spans as they come. An empty span is no speech, it only says that nothing before it is to come any more."""
    if not max_seconds >= SHORTEST_WINDOW or not max_gap_s >= 0:
        raise ConfigError(
            f"`max_seconds` must be at least {SHORTEST_WINDOW:g} and `max_gap_s` at least 0, but are {max_seconds} "
            f"and {max_gap_s}."
        )
    longest, gap = max_seconds * SAMPLING_RATE, max_gap_s * SAMPLING_RATE
    pending: list[Span] = []
    last = 0
    for span in spans:
        if span.end - span.start > longest or not last <= span.start <= span.end:
            raise ConfigError(
                f"Spans must be in order, apart and no longer than `max_seconds`={max_seconds:g}, but {span.seconds} "
                f"follows {last / SAMPLING_RATE} (seconds). Pass `max_speech_s={max_seconds:g}` to `find_speech`."
            )
        last = span.end
        if pending and (span.end - pending[0].start > longest or span.start - pending[-1].end > gap):
            yield Window(tuple(pending))
            pending = []
        if span.end > span.start:
            pending.append(span)
    if pending:
        yield Window(tuple(pending))


class _Tape:
    """The last part of a stream."""

    def __init__(self) -> None:
        self._blocks: list[Waveform] = []
        self._start = 0  # of the first block, in samples from the beginning of the stream

    def record(self, block: Waveform) -> Waveform:
        self._blocks.append(block)
        return block

    def forget_before(self, position: int) -> None:
        while self._blocks and self._start + len(self._blocks[0]) <= position:
            self._start += len(self._blocks.pop(0))

    def play(self, start: int, end: int) -> Waveform:
        """Return a copy of the samples from `start` to `end`."""
        parts, offset = [], self._start
        for block in self._blocks:
            if offset < end and offset + len(block) > start:
                parts.append(block[max(0, start - offset) : end - offset])
            offset += len(block)
        return np.concatenate(parts)
