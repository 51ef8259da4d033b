"""How to cut a recording into windows that a model can take, without losing a word.

Stretches of speech (`speech`) that are near each other are packed into a `Window` as long as they fit. One that would
not fit has been cut at its longest pause or, if its speaker never pauses, where it is quietest: no speech is left out,
and none comes twice, except for what both windows hear beyond a cut through speech, if that is asked for.
`WindowCutter` does it on a stream and keeps little more than one window in memory, however long the recording.

Times are samples at 16 kHz.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.speech import SHORTEST_WINDOW, Detector, Rules, Span, find_speech
from dragoman.audio.vad import load_speech_net
from dragoman.audio.waveform import Waveform, as_float32
from dragoman.errors import ConfigError

__all__ = ["Span", "Window", "WindowCutter", "find_speech", "plan_windows", "speech_windows"]


@dataclass(frozen=True)
class Window:
    """Neighbouring spans that are decoded together, with the silence between them.

    Attributes:
        spans: In order, at least one.
        before: Samples before the first span that are heard too, since the cut there goes through speech.
        after: Samples after the last span, for the same reason.
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
    def heard_from(self) -> float:
        """Where its samples begin, in seconds: before its start where the cut goes through speech."""
        return (self.start - self.before) / SAMPLING_RATE


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
    packer = _Packer(max_seconds, max_gap_s)
    windows = [window for span in spans for window in packer.push(span)]
    return windows + packer.finish()


def speech_windows(blocks: Iterable[Waveform], max_seconds: float, **rules: float) -> Iterator[tuple[Window, Waveform]]:
    """Cut a stream of audio into windows of speech, each with its samples, as soon as they are complete.

    Args:
        blocks: Samples at 16 kHz, as from `stream_audio`.
        max_seconds: What the model can take.
        **rules: As of `WindowCutter`.

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
    """Cuts audio into windows of speech while it comes.

    Args:
        max_seconds: What the model can take.
        threshold: As of `find_speech`, and so are the following four.
        min_speech_ms: See there.
        max_speech_s: See there.
        min_silence_ms: See there.
        pad_ms: See there.
        max_gap_s: As of `plan_windows`.
        reach_s: What neighbouring windows hear of each other where the cut between them goes through speech, because
            nobody paused: at most an eighth of the window.

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
        reach_s: float = 0.0,
    ) -> None:
        longest = min(max_speech_s, max_seconds)
        reach_s = min(reach_s, longest / 8)
        rules = Rules.of(threshold, min_speech_ms, longest, min_silence_ms, pad_ms, reach_s)
        self._detector, self._tape = Detector(rules, load_speech_net()), _Tape()
        self._packer = _Packer(max_seconds, max_gap_s, rules.reach)
        self._longest = round(max_seconds * SAMPLING_RATE)

    def push(self, block: Waveform) -> list[tuple[Window, Waveform]]:
        """Hear a block of samples and return the windows that are complete, each with its samples.

        Raises:
            AudioError: If the audio is not mono, or not finite.
        """
        spans = self._detector.push(self._tape.record(as_float32(block)))
        horizon = self._detector.horizon
        # Nothing: no span to come starts earlier.
        windows = [w for span in (*spans, Span(horizon, horizon)) for w in self._packer.push(span)]
        found = [(window, self._play(window)) for window in windows]
        self._tape.forget_before(horizon - self._longest)
        return found

    def finish(self) -> list[tuple[Window, Waveform]]:
        """Return what is left."""
        windows = [window for span in self._detector.finish() for window in self._packer.push(span)]
        return [(window, self._play(window)) for window in (*windows, *self._packer.finish())]

    def unfinished(self) -> tuple[int, Waveform] | None:
        """Return the first sample and the samples of the speech that is in no window yet; `None` if there is none.

        No more than a window takes: what is beyond will be in another one.
        """
        start = self._packer.start if self._packer.start is not None else self._detector.speaking_since
        return None if start is None else (start, self._tape.play(start, min(self._tape.end, start + self._longest)))

    def _play(self, window: Window) -> Waveform:
        return self._tape.play(window.start - window.before, window.end + window.after)


class _Packer:
    """Packs spans as they come. An empty span is no speech, it only says that nothing before it is to come any more."""

    def __init__(self, max_seconds: float, max_gap_s: float, reach: int = 0) -> None:
        if not max_seconds >= SHORTEST_WINDOW or not max_gap_s >= 0:
            raise ConfigError(
                f"`max_seconds` must be at least {SHORTEST_WINDOW:g} and `max_gap_s` at least 0, but are {max_seconds} "
                f"and {max_gap_s}."
            )
        self._longest, self._gap = max_seconds * SAMPLING_RATE, max_gap_s * SAMPLING_RATE
        self._reach, self._last = reach, 0
        self._pending: list[Span] = []

    @property
    def start(self) -> int | None:
        """First sample of the window that is not full yet, if there is one."""
        return self._pending[0].start if self._pending else None

    def push(self, span: Span) -> list[Window]:
        """Take a span and return the window that it completes, if it does."""
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
        """Return the window that is not full yet, if there is one."""
        if not self._pending:
            return []
        spans, self._pending = tuple(self._pending), []
        return [Window(spans, self._reach * spans[0].cut_before, self._reach * spans[-1].cut_after)]

    def _fits(self, span: Span) -> bool:
        first, last = self._pending[0], self._pending[-1]
        heard = span.end - first.start + self._reach * (first.cut_before + span.cut_after)
        return heard <= self._longest and span.start - last.end <= self._gap


class _Tape:
    """The last part of a stream."""

    def __init__(self) -> None:
        self._blocks: list[Waveform] = []
        self._start = self.end = 0  # of what is kept, in samples from the beginning of the stream

    def record(self, block: Waveform) -> Waveform:
        self._blocks.append(block)
        self.end += len(block)
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
