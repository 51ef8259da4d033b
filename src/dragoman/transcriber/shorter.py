"""Windows whose transcript is suspicious are decoded again in shorter ones, cut at pauses.

A long window makes a decoder loop, stop early or skip a sentence; a third of it seldom does. Three transcripts are
suspicious: one that is repetitive (a loop, or a sentence that was really said again and again: shorter windows tell
which), one that is much too short for its window, and one that leaves speech without words: more than 1.5 seconds of
voice activity lie within the time of one word or after the last. Each window is decoded again once at most, by the same
search at the first temperature.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.segment import Window, plan_windows
from dragoman.audio.speech import Span, find_speech
from dragoman.audio.vad import CHUNK, speech_probabilities
from dragoman.audio.waveform import Waveform
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.guards import covers_little, fails, is_doubtful, is_silence, repeats
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.silences import pauses, snap_to_silences
from dragoman.transcriber.words import find_words, word_boundaries

_SHORTEST = 4.0  # seconds of a window that is divided
_MIN_PART, _MAX_PART = 3.0, 10.0  # seconds; a third of the window between them
_MIN_OUTER = 0.5  # seconds; shorter ends of a window stay with the gap next to them
_MIN_PAUSE = 0.12  # seconds of silence where a window may be cut
_MAX_MOVE = 0.3  # seconds that a gap may become shorter to end in a pause
_MIN_SPEECH = 1.5  # seconds of speech in the time of one word; words of 1.4 s are said

_MAX_TOKENS_PER_SECOND, _MIN_TOKENS = 25, 32

# Without word timestamps, transcripts above this rate are not aligned to look for speech without words. Speech has 12
# to 20 bytes of UTF-8 per second.
_BYTES_PER_SECOND = 16.0


class Suspicion(NamedTuple):
    """Why a window is to be decoded again in shorter ones.

    Attributes:
        gap: Where speech has no words, in seconds from the start of the window; `None` if something else is suspicious.
    """

    gap: tuple[float, float] | None = None


def suspicion(
    decoded: Decoded, samples: Waveform, text_of: Callable[[Sequence[int]], str], options: TranscribeOptions
) -> Suspicion | None:
    """Return why a window is to be decoded again in shorter ones; `None` if it is not."""
    if len(samples) < _SHORTEST * SAMPLING_RATE or is_silence(decoded, options):
        return None
    if repeats(decoded, options):
        return Suspicion()
    if not options.vad_filter or is_doubtful(decoded, options):
        return None
    gap = speech_without_words(decoded, samples, text_of, options)
    return Suspicion(gap) if gap is not None or covers_little(decoded, options) else None


def may_skip_speech(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a transcript is so short that it is worth aligning to look for speech without words."""
    if not options.vad_filter or decoded.seconds < _SHORTEST or fails(decoded, options):
        return False
    return len(decoded.text.encode("utf-8", errors="replace")) < _BYTES_PER_SECOND * decoded.seconds


def speech_without_words(
    decoded: Decoded, samples: Waveform, text_of: Callable[[Sequence[int]], str], options: TranscribeOptions
) -> tuple[float, float] | None:
    """Return where speech has no words, in seconds from the start of the window; `None` without an alignment."""
    word_tokens = None if decoded.alignment is None else find_words(decoded.tokens, text_of)
    if decoded.alignment is None or word_tokens is None or not word_tokens.words:
        return None
    spans = snap_to_silences(word_boundaries(word_tokens, decoded.alignment.begins), samples)
    long = [one for one in (*spans, (spans[-1][1], len(samples) / SAMPLING_RATE)) if one[1] - one[0] > _MIN_SPEECH]
    if not long:
        return None
    spoken = speech_probabilities(samples) >= options.vad_threshold
    for start, end in long:
        chunks = spoken[round(start * SAMPLING_RATE / CHUNK) : round(end * SAMPLING_RATE / CHUNK)]
        if chunks.sum() * CHUNK > _MIN_SPEECH * SAMPLING_RATE:
            return start, end
    return None


def shorter_windows(
    window: Window, samples: Waveform, options: TranscribeOptions, gap: tuple[float, float] | None
) -> list[tuple[Window, Waveform]]:
    """Divide a window at its pauses into windows of a third of its length, or around a gap, each with its samples.

    Args:
        window: The place of the window.
        samples: Its audio.
        options: The user's options.
        gap: Where speech has no words, in seconds from the start of the samples; it gets a window of its own.
    """
    spans = _thirds(samples, options) if gap is None else _around(gap, samples)
    first = window.start - window.before
    found = []
    for one in spans:
        start, end = max(first + one.start, window.start), min(first + one.end, window.end)
        before = window.before if one.start < window.before else 0
        after = window.after if one.end > window.before + window.end - window.start else 0
        if end > start:
            place = Window((Span(start, end),), before, after)
            found.append((place, samples[start - before - first : end + after - first]))
    return found


def _thirds(samples: Waveform, options: TranscribeOptions) -> list[Span]:
    longest = min(max(len(samples) / SAMPLING_RATE / 3, _MIN_PART), _MAX_PART)
    spans = find_speech(
        np.asarray(samples),
        threshold=options.vad_threshold if options.vad_filter else 0.0,
        min_speech_ms=options.vad_min_speech_duration_ms if options.vad_filter else 0.0,
        max_speech_s=longest,
        min_silence_ms=options.vad_min_silence_duration_ms,
        pad_ms=min(options.vad_speech_pad_ms, longest * 1000 / 4),
    )
    return [Span(one.start, one.end) for one in plan_windows(spans, longest)]


def _around(gap: tuple[float, float], samples: Waveform) -> list[Span]:
    """Return the span before a gap, the gap, and the span after it; the gap reaches to the pauses around it."""
    quiet = pauses(samples, _MIN_PAUSE)
    start = max((one for one in quiet if one <= gap[0] + _MAX_MOVE), default=0.0)
    end = min((one for one in quiet if one >= gap[1] - _MAX_MOVE), default=len(samples) / SAMPLING_RATE)
    cuts = [0, round(start * SAMPLING_RATE), round(end * SAMPLING_RATE), len(samples)]
    shortest = round(_MIN_OUTER * SAMPLING_RATE)
    cuts[1] = cuts[1] if cuts[1] >= shortest else 0
    cuts[2] = cuts[2] if len(samples) - cuts[2] >= shortest else len(samples)
    return [Span(start, end) for start, end in pairwise(cuts) if end > start]


def with_short_texts(parts: Sequence[tuple[Window, Waveform]], options: TranscribeOptions) -> TranscribeOptions:
    """Return the options with a limit that a loop reaches soon and no speech reaches: 25 tokens per second."""
    longest = max(len(samples) for _, samples in parts) / SAMPLING_RATE
    limit = max(round(longest * _MAX_TOKENS_PER_SECOND), _MIN_TOKENS)
    return replace(options, max_new_tokens=min(limit, options.max_new_tokens or limit))


def are_better(parts: Sequence[Decoded], whole: Decoded, options: TranscribeOptions) -> bool:
    """Return whether the transcripts of shorter windows replace that of the whole one.

    None of them may fail a guard. If the whole is not repetitive, they must have more text.
    """
    spoken = [one for one in parts if not is_silence(one, options)]
    if not spoken or any(fails(one, options) for one in spoken):
        return False
    return repeats(whole, options) or sum(len(one.text) for one in spoken) > len(whole.text)
