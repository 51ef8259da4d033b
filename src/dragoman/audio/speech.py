"""Voice activity detection: spans of speech from the probabilities of `vad`.

Times are samples at 16 kHz. Works on a stream; the state does not grow with the recording.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.vad import CHUNK, VadState, load_speech_net, speech_probabilities
from dragoman.audio.waveform import Waveform, as_float32, check_samples
from dragoman.errors import ConfigError

SHORTEST_WINDOW = 1.0  # seconds; a shorter one has no good place for a cut

_HYSTERESIS = 0.15  # speech continues while its probability is at most this far below the threshold
_PAUSE = 0.35  # below this probability a chunk within a span is a pause
_CHUNKS_AT_ONCE = 32  # constant, so that results do not depend on the blocks of the stream


@dataclass(frozen=True, order=True)
class Span:
    """A span of speech.

    Attributes:
        start: First sample.
        end: Sample after the last.
        cut_before: Whether its start is a cut through speech, not a pause.
        cut_after: Whether its end is a cut through speech.
    """

    start: int
    end: int
    cut_before: bool = field(default=False, compare=False)
    cut_after: bool = field(default=False, compare=False)

    @property
    def seconds(self) -> tuple[float, float]:
        """Start and end in seconds."""
        return self.start / SAMPLING_RATE, self.end / SAMPLING_RATE


def find_speech(
    audio: Waveform | Iterable[Waveform],
    *,
    threshold: float = 0.5,
    min_speech_ms: float = 100,
    max_speech_s: float = inf,
    min_silence_ms: float = 160,
    pad_ms: float = 200,
) -> list[Span]:
    """Find the spans of speech in a recording.

    Args:
        audio: Samples `[samples]` at 16 kHz, or blocks of them (`stream_audio`).
        threshold: Probability from which a chunk is speech, 0…1. With 0 the whole recording is speech, and only cut to
            `max_speech_s`.
        min_speech_ms: Minimum length of speech; shorter sounds are ignored as clicks.
        max_speech_s: Longest span; a longer one is cut at the longest pause in the second half of what fits, or without
            a pause, at the quietest moment there.
        min_silence_ms: Minimum silence that ends a span; at least `pad_ms`.
        pad_ms: Padding before and after each span, limited by the previous span and the ends of the recording.

    Returns:
        Spans in order, not overlapping.

    Raises:
        AudioError: If `audio` is not mono, or not finite.
        ConfigError: If a number is out of range.
    """
    blocks = [audio] if isinstance(audio, np.ndarray) else audio
    rules = Rules.of(threshold, min_speech_ms, max_speech_s, min_silence_ms, pad_ms)
    detector = Detector(rules, load_speech_net())
    spans = [span for block in blocks for span in detector.push(block)]
    return spans + detector.finish()


def speech_probability(samples: Waveform) -> float:
    """Return the probability of speech in a clip: the largest mean over a fifth of a second, a short word.

    Args:
        samples: `[samples]` at 16 kHz.
    """
    probabilities = speech_probabilities(samples)
    size = min(len(probabilities), round(SAMPLING_RATE / 5 / CHUNK))
    return float(np.convolve(probabilities, np.full(size, 1 / size), mode="valid").max()) if size else 0.0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The arguments of `find_speech`, checked, with durations in samples.

    Spans that are cut through speech leave space in the window for an overlap of `overlap` samples.
    """

    threshold: float
    min_speech: float
    max_speech: float
    min_silence: float
    pad: int
    overlap: int = 0

    @classmethod
    def of(
        cls,
        threshold: float,
        min_speech_ms: float,
        max_speech_s: float,
        min_silence_ms: float,
        pad_ms: float,
        overlap_s: float = 0.0,
    ) -> "Rules":
        """Check the arguments and convert them.

        Raises:
            ConfigError: With all faults found.
        """
        faults = [
            f"`{name}` must be at least {low:g}, but is {value}."
            for name, value, low in (
                ("min_speech_ms", min_speech_ms, 0),
                ("max_speech_s", max_speech_s, SHORTEST_WINDOW),
                ("min_silence_ms", min_silence_ms, 0),
                ("pad_ms", pad_ms, 0),
            )
            if not value >= low
        ]
        if not 0 <= threshold <= 1:
            faults.append(f"`threshold` must lie between 0 and 1, but is {threshold}.")
        if pad_ms > max_speech_s * 1000 / 4:
            faults.append(
                f"`pad_ms` must be at most a quarter of the longest span ({max_speech_s:g} s), but is {pad_ms}."
            )
        if not 0 <= overlap_s <= max_speech_s / 4:
            faults.append(f"`overlap_s` must be 0 to a quarter of {max_speech_s:g} s, but is {overlap_s:g} s.")
        if faults:
            raise ConfigError(" ".join(faults))
        per_ms = SAMPLING_RATE / 1000
        return cls(
            threshold=threshold,
            min_speech=min_speech_ms * per_ms,
            max_speech=max_speech_s * SAMPLING_RATE,
            min_silence=max(min_silence_ms, pad_ms) * per_ms,
            pad=round(pad_ms * per_ms),
            overlap=round(overlap_s * SAMPLING_RATE),
        )


class Detector:
    """Converts a stream of samples to spans, each as soon as it is final.

    Args:
        rules: The criteria for speech.
        net: Computes probabilities; called like `SpeechNet`.
    """

    def __init__(self, rules: Rules, net: Callable[[Waveform, VadState], tuple[Waveform, VadState]]) -> None:
        self._rules = rules
        self._net, self._state = net, VadState.empty()
        self._buffer: list[Waveform] = []  # samples that do not fill a batch of chunks yet
        self._buffered = 0  # their number
        self._now = 0  # end of the last processed chunk
        self._free = 0  # end of the last span: no span may start before
        # Of the open span:
        self._start: int | None = None
        self._onset = 0  # first sample of its speech, or of the rest after a cut
        self._speech_end = 0
        self._continued = False  # it is the rest of a span that was cut, and so not a click
        self._resumes_until = 0  # speech that begins before belongs to a span that was cut in its last pause
        self._cut_before = False  # it begins after a cut through speech
        self._chunks: list[tuple[float, float]] = []  # probability and level of each chunk from `_onset`

    @property
    def horizon(self) -> int:
        """First sample at which a later span can start."""
        return max(self._free, self._now - self._rules.pad) if self._start is None else self._start

    @property
    def speaking_since(self) -> int | None:
        """First sample of the open span, if there is one."""
        return self._start

    def push(self, block: Waveform) -> list[Span]:
        """Process a block of samples and return the spans that became final.

        Raises:
            AudioError: If the samples are not finite, or not a waveform.
        """
        block = as_float32(block)
        check_samples(block, "The audio: ", SAMPLING_RATE, first=self._now + self._buffered)
        self._buffer.append(block.copy())  # callers may refill theirs
        self._buffered += len(block)
        batch = _CHUNKS_AT_ONCE * CHUNK
        if self._buffered < batch:
            return []
        samples = np.concatenate(self._buffer)
        whole = self._buffered // batch * batch
        self._buffer, self._buffered = [samples[whole:]], self._buffered - whole
        return [span for start in range(0, whole, batch) for span in self._process(samples[start : start + batch])]

    def finish(self) -> list[Span]:
        """Process the remaining samples and close the last span."""
        total = self._now + self._buffered
        padding = np.zeros(-self._buffered % CHUNK, np.float32)
        spans = self._process(np.concatenate([*self._buffer, padding]))
        spans += self._close(self._speech_end + self._rules.pad)
        return [replace(span, end=min(span.end, total)) for span in spans if span.start < total]

    def _process(self, samples: Waveform) -> list[Span]:
        probabilities, self._state = self._net(samples, self._state)
        levels = np.square(samples.reshape(-1, CHUNK)).mean(axis=1)
        spans = []
        for probability, level in zip(probabilities.tolist(), levels.tolist(), strict=True):
            spans += self._step(probability, level)
        return spans

    def _step(self, probability: float, level: float) -> list[Span]:
        """Process one chunk."""
        rules, chunk_start = self._rules, self._now
        self._now += CHUNK
        if self._start is None and probability >= rules.threshold:
            continued = chunk_start < self._resumes_until
            self._open(max(self._free, chunk_start - rules.pad), chunk_start, continued=continued)
        if self._start is None:
            return []
        if rules.max_speech < inf:
            self._chunks.append((probability, level))
        if probability >= rules.threshold - _HYSTERESIS:
            self._speech_end = self._now
        elif self._now - self._speech_end >= rules.min_silence:
            return self._close(self._speech_end + rules.pad)
        overlap = rules.overlap if self._cut_before else 0
        if self._now + CHUNK - self._start + overlap > rules.max_speech:  # the next chunk would not fit
            return self._cut()
        return []

    def _open(self, start: int, onset: int, *, continued: bool) -> None:
        self._start, self._onset, self._continued = start, onset, continued
        self._cut_before, self._chunks = False, []

    def _close(self, end: int, cut_after: bool = False) -> list[Span]:
        """End the open span, if there is one, and return it unless it is a click."""
        if self._start is None:
            return []
        span = Span(self._start, min(end, self._now), self._cut_before, cut_after)
        self._start = None
        if self._speech_end - self._onset < self._rules.min_speech and not self._continued:
            return []
        self._free = span.end
        return [span]

    def _cut(self) -> list[Span]:
        """End the open span at the best cut, and continue with the rest."""
        assert self._start is not None
        earliest = (self._start + self._rules.max_speech / 2 - self._onset) / CHUNK
        offset, through = _best_cut(self._chunks, max(0, int(earliest)), self._rules.overlap // CHUNK)
        place = self._onset + offset
        kept, first = self._chunks, -(-(place - self._onset) // CHUNK)
        speech_end, onset = self._speech_end, self._onset
        self._speech_end = min(speech_end, place)
        self._continued = True  # whatever follows the cut
        spans = self._close(min(place, speech_end + self._rules.pad), through)
        self._resumes_until = speech_end + round(self._rules.min_silence)
        if speech_end > place:  # speech continues after the cut
            self._open(place, onset + first * CHUNK, continued=True)
            self._chunks, self._speech_end, self._cut_before = kept[first:], speech_end, through
        return spans


def _best_cut(chunks: list[tuple[float, float]], earliest: int, overlap: int) -> tuple[int, bool]:
    """Return the best cut, in samples from the first chunk, and whether it goes through speech.

    It is in the longest pause, or without one, at the quietest moment with `overlap` chunks after it.
    """
    pauses: list[tuple[int, int]] = []  # length and first chunk of each
    index = earliest
    for is_pause, group in groupby(chunks[earliest:], key=lambda chunk: chunk[0] < _PAUSE):
        length = len(list(group))
        if is_pause:
            pauses.append((length, index))
        index += length
    if pauses:
        length, first = max(pauses)  # of equal ones the later: a longer window
        return (2 * first + length) * CHUNK // 2, False
    levels = np.array([level for _, level in chunks[earliest : len(chunks) - overlap]])
    quietest = 1 + int(np.argmin(np.convolve(levels, np.ones(3), mode="valid")))  # with its neighbours
    return (2 * (earliest + quietest) + 1) * CHUNK // 2, True
