"""Hallucination guards, as in Whisper: which transcripts are decoded again, and which windows are dropped.

A transcript fails if it is repetitive (its zlib compression ratio is above `compression_ratio_threshold`, or it reached
the length limit and ends with the same tokens over and over) or if its average log-probability is below
`logprob_threshold`. People do repeat themselves, so a repetitive window is first decoded in shorter ones (`shorter`).
A transcript that still fails is decoded again by sampling at the next temperature. If no temperature gives one that
passes, the best is kept: not an endless loop, not below the threshold of log-probability, not repetitive, then the more
likely one.

A window is dropped, whatever its transcript, if its no-speech probability is above `no_speech_threshold` and the
average log-probability is below `logprob_threshold`; it is not decoded again. For Whisper, the no-speech probability is
that of its no-speech token; for other models it is one minus the highest mean voice activity probability over a fifth
of a second of the window.
"""

from collections.abc import Sequence

from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import compression_ratio

_MIN_REPEATS = 5  # in a row, at the end of a transcript, that count as a loop
_MAX_LOOP_TOKENS = 40  # of what is repeated
# Speech has 12 to 20 bytes of UTF-8 per second, in any script; a sixth of that for this many seconds is too little.
_MIN_BYTES_PER_SECOND, _MIN_SECONDS = 2.0, 8.0


def fails(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a transcript is to be decoded again."""
    return repeats(decoded, options) or is_doubtful(decoded, options)


def is_silence(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a window is dropped, whatever was decoded."""
    threshold = options.no_speech_threshold
    if threshold is None or decoded.no_speech_prob <= threshold:
        return False
    return options.logprob_threshold is None or is_doubtful(decoded, options)


def best_of(candidates: Sequence[Decoded], options: TranscribeOptions) -> Decoded:
    """Return the best of several transcripts that all failed; the first of equals."""
    return max(
        candidates,
        key=lambda one: (not _loops(one), not is_doubtful(one, options), not repeats(one, options), one.avg_logprob),
    )


def covers_little(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a likely transcript is much too short for its window, as if the decoder had stopped early."""
    if decoded.seconds < _MIN_SECONDS or is_doubtful(decoded, options):
        return False
    return len(decoded.text.encode("utf-8", errors="replace")) < _MIN_BYTES_PER_SECOND * decoded.seconds


def is_looping(tokens: Sequence[int]) -> bool:
    """Return whether a transcript ends with the same tokens over and over."""
    return any(
        len(tokens) >= _MIN_REPEATS * size
        and list(tokens[-_MIN_REPEATS * size :]) == list(tokens[-size:]) * _MIN_REPEATS
        for size in range(1, _MAX_LOOP_TOKENS + 1)
    )


def repeats(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a transcript is repetitive: a loop, or a sentence that was said again and again."""
    threshold = options.compression_ratio_threshold
    if threshold is None:
        return False
    return _loops(decoded) or compression_ratio(decoded.text) > threshold


def is_doubtful(decoded: Decoded, options: TranscribeOptions) -> bool:
    """Return whether a transcript is unlikely."""
    return options.logprob_threshold is not None and decoded.avg_logprob < options.logprob_threshold


def _loops(decoded: Decoded) -> bool:
    return decoded.truncated and is_looping(decoded.tokens)
