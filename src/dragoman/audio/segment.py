"""Segmentation of a recording into windows that fit a model.

Spans of speech (`speech`) that are close together are packed into a `Window` as long as they fit. A span that is too
long has been cut at its longest pause or, without a pause, at its quietest moment. No speech is lost, and none is in
two windows, except for the optional overlap at a cut through speech. `WindowCutter` works on a stream and keeps little
more than one window in memory, for any length of recording.

Times are samples at 16 kHz.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.speech import SHORTEST_WINDOW, Detector, Rules, Span
from dragoman.audio.vad import load_speech_net
from dragoman.audio.waveform import Waveform, as_float32
from dragoman.errors import ConfigError


@dataclass(frozen=True)
class Window:
    """Neighbouring spans that are decoded together, with the silence between them.

    Attributes:
        spans: In order, at least one.
        before: Samples of overlap before the first span, if the cut there goes through speech.
        after: Samples of overlap after the last span, if the cut there goes through speech.
    """

    spans: tuple[Span, ...]
    before: int = 0
    after: int = 0

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

    @property
    def audio_start(self) -> float:
        """Start of its samples in seconds: the overlap is before `start`."""
        return (self.start - self.before) / SAMPLING_RATE


def plan_windows(spans: Iterable[Span], max_seconds: float, *, max_gap_s: float = 2.0) -> list[Window]:
    """Pack neighbouring spans into windows.

    Args:
        spans: In order, not overlapping, none longer than `max_seconds` (pass `max_speech_s` to `find_speech`).
        max_seconds: Longest window, which the model can take.
        max_gap_s: Spans further apart go into different windows, since models hallucinate on long silence.

    Returns:
        Windows in order, none longer than `max_seconds`, with all spans.

    Raises:
        ConfigError: If the spans are not in order, overlap or are too long.
    """
    packer = _Packer(max_seconds, max_gap_s)
    windows = [window for span in spans for window in packer.push(span)]
    return windows + packer.finish()


def speech_windows(blocks: Iterable[Waveform], max_seconds: float, **rules: float) -> Iterator[tuple[Window, Waveform]]:
    """Cut a stream of audio into windows of speech, each with its samples, as soon as they are complete.

    Args:
        blocks: Samples at 16 kHz, as from `stream_audio`.
        max_seconds: Longest window, which the model can take.
        **rules: Arguments of `WindowCutter`.

    Yields:
        Window, and its samples `[window.before + window.end - window.start + window.after]`.

    Raises:
        AudioError: If the audio is not mono, or not finite.
        ConfigError: If a number is out of range.
    """
    cutter = WindowCutter(max_seconds, **rules)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.finish()


class WindowCutter:
    """Cuts a stream of audio into windows of speech.

    Args:
        max_seconds: Longest window, which the model can take.
        threshold: As for `find_speech`.
        min_speech_ms: As for `find_speech`.
        max_speech_s: As for `find_speech`.
        min_silence_ms: As for `find_speech`.
        pad_ms: As for `find_speech`.
        max_gap_s: As for `plan_windows`.
        overlap_s: Overlap of neighbouring windows on each side of a cut through speech; limited to an eighth of the
            window.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        max_seconds: float,
        *,
        threshold: float = 0.5,
        min_speech_ms: float = 100,
        max_speech_s: float = inf,
        min_silence_ms: float = 160,
        pad_ms: float = 200,
        max_gap_s: float = 2.0,
        overlap_s: float = 0.0,
    ) -> None:
        longest = min(max_speech_s, max_seconds)
        overlap_s = min(overlap_s, longest / 8)
        rules = Rules.of(threshold, min_speech_ms, longest, min_silence_ms, pad_ms, overlap_s)
        self._detector, self._buffer = Detector(rules, load_speech_net()), _SampleBuffer()
        self._packer = _Packer(max_seconds, max_gap_s, rules.overlap)
        self._longest = round(max_seconds * SAMPLING_RATE)

    def push(self, block: Waveform) -> list[tuple[Window, Waveform]]:
        """Process a block of samples and return the windows that are complete, each with its samples.

        Raises:
            AudioError: If the audio is not mono, or not finite.
        """
        block = as_float32(block)
        self._buffer.append(block.copy())  # callers may refill theirs
        spans = self._detector.push(block)
        horizon = self._detector.horizon
        # The empty span says that no later span starts before the horizon.
        windows = [w for span in (*spans, Span(horizon, horizon)) for w in self._packer.push(span)]
        found = [(window, self._samples(window)) for window in windows]
        self._buffer.drop_before(horizon - self._longest)
        return found

    def finish(self) -> list[tuple[Window, Waveform]]:
        """Return the windows at the end of the stream."""
        windows = [window for span in self._detector.finish() for window in self._packer.push(span)]
        return [(window, self._samples(window)) for window in (*windows, *self._packer.finish())]

    def unfinished(self) -> tuple[int, Waveform] | None:
        """Return the position and the samples of speech that is in no window yet; `None` if there is none.

        At most the length of a window is returned; the rest will be in the next one.
        """
        start = self._packer.start if self._packer.start is not None else self._detector.speaking_since
        return (
            None if start is None else (start, self._buffer.read(start, min(self._buffer.end, start + self._longest)))
        )

    def _samples(self, window: Window) -> Waveform:
        return self._buffer.read(window.start - window.before, window.end + window.after)


class _Packer:
    """Packs a stream of spans. An empty span only states that no later span starts before it."""

    def __init__(self, max_seconds: float, max_gap_s: float, overlap: int = 0) -> None:
        if not max_seconds >= SHORTEST_WINDOW or not max_gap_s >= 0:
            raise ConfigError(
                f"`max_seconds` must be at least {SHORTEST_WINDOW:g} and `max_gap_s` at least 0, but are {max_seconds} "
                f"and {max_gap_s}."
            )
        self._longest, self._gap = max_seconds * SAMPLING_RATE, max_gap_s * SAMPLING_RATE
        self._overlap, self._last = overlap, 0
        self._pending: list[Span] = []

    @property
    def start(self) -> int | None:
        """First sample of the incomplete window, if there is one."""
        return self._pending[0].start if self._pending else None

    def push(self, span: Span) -> list[Window]:
        """Add a span and return the window that it completes, if any."""
        if span.end - span.start > self._longest or not self._last <= span.start <= span.end:
            raise ConfigError(
                f"Spans must be in order, apart and no longer than `max_seconds`={self._longest / SAMPLING_RATE:g}, "
                f"but {span.seconds} follows {self._last / SAMPLING_RATE} (seconds). Pass "
                f"`max_speech_s={self._longest / SAMPLING_RATE:g}` to `find_speech`."
            )
        self._last = span.end
        windows = self.finish() if self._pending and not self._fits(span) else []
        if span.end > span.start:
            self._pending.append(span)
        return windows

    def finish(self) -> list[Window]:
        """Return the incomplete window, if there is one."""
        if not self._pending:
            return []
        spans, self._pending = tuple(self._pending), []
        return [Window(spans, self._overlap * spans[0].cut_before, self._overlap * spans[-1].cut_after)]

    def _fits(self, span: Span) -> bool:
        first, last = self._pending[0], self._pending[-1]
        length = span.end - first.start + self._overlap * (first.cut_before + span.cut_after)
        return length <= self._longest and span.start - last.end <= self._gap


class _SampleBuffer:
    """The last part of a stream."""

    def __init__(self) -> None:
        self._blocks: list[Waveform] = []
        self._start = self.end = 0  # in samples from the beginning of the stream

    def append(self, block: Waveform) -> None:
        self._blocks.append(block.copy())  # callers may refill theirs
        self.end += len(block)

    def drop_before(self, position: int) -> None:
        while self._blocks and self._start + len(self._blocks[0]) <= position:
            self._start += len(self._blocks.pop(0))

    def read(self, start: int, end: int) -> Waveform:
        """Return a copy of the samples from `start` to `end`."""
        parts, offset = [], self._start
        for block in self._blocks:
            if offset < end and offset + len(block) > start:
                parts.append(block[max(0, start - offset) : end - offset])
            offset += len(block)
        return np.concatenate(parts)
