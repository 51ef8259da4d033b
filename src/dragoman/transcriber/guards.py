"""Hallucination guards, as in Whisper: which transcripts are decoded again, and which windows are dropped.

A transcript fails if it is repetitive (its zlib compression ratio is above `compression_ratio_threshold`, or it reached
the length limit and ends with the same tokens over and over) or if its average log-probability is below
`logprob_threshold`. It is then decoded again by sampling at the next temperature. If no temperature gives a transcript
that passes, the best one is kept: one without repetition is preferred to one with it, then the more likely one.

A window is dropped, whatever its transcript, if its no-speech probability is above `no_speech_threshold` and the
average log-probability is below `logprob_threshold`; it is not decoded again. For Whisper, the no-speech probability is
that of its no-speech token; for other models it is one minus the highest mean voice activity probability over a fifth
of a second of the window.
"""

from collections.abc import Sequence

from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import compression_ratio

__all__ = ["best_of", "fails", "is_looping", "is_silence"]

_MIN_REPEATS = 5  # in a row, at the end of a transcript, that count as a loop
_MAX_LOOP_TOKENS = 40  # of what is repeated


def fails(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a transcript is to be decoded again at the next temperature."""
    return _repeats(decoded, options) or _is_doubtful(decoded, options)


def is_silence(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a window is dropped, whatever was decoded."""
    threshold = options.no_speech_threshold
    if threshold is None or decoded.no_speech_prob <= threshold:
        return False
    return options.logprob_threshold is None or _is_doubtful(decoded, options)


def best_of(candidates: Sequence[Decoded], options: TranscribeOptions) -> Decoded:
    """Return the best of several transcripts that all failed; the first of equals."""
    return max(candidates, key=lambda one: (not _repeats(one, options), one.avg_logprob))


def is_looping(tokens: Sequence[int]) -> bool:
    """Return whether a transcript ends with the same tokens over and over."""
    return any(
        len(tokens) >= _MIN_REPEATS * size
        and list(tokens[-_MIN_REPEATS * size :]) == list(tokens[-size:]) * _MIN_REPEATS
        for size in range(1, _MAX_LOOP_TOKENS + 1)
    )


def _repeats(decoded: Decoded, options: TranscribeOptions) -> bool:
    threshold = options.compression_ratio_threshold
    if threshold is None:
        return False
    return compression_ratio(decoded.text) > threshold or (decoded.truncated and is_looping(decoded.tokens))


def _is_doubtful(decoded: Decoded, options: TranscribeOptions) -> bool:
    return options.logprob_threshold is not None and decoded.avg_logprob < options.logprob_threshold
