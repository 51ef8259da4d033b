"""Guards against invented words, as users of whisper know them: when a text is tried again, and when it is dropped.

A text fails if it repeats itself (zlib makes it more than `compression_ratio_threshold` times smaller, or it says one
thing over and over until the decoder is full) or if its mean log-probability is below `logprob_threshold`. It is then
decoded again, sampled at the next of the temperatures. If none gives a text that passes, the best of all stays: one
that does not repeat itself before one that does, then the likelier.

A window is silence, whatever its text, if it is no speech with a probability above `no_speech_threshold` and the text
is below `logprob_threshold`; it is not tried again, and has no words. That probability is Whisper's own token for it
where the model has one; for other models it is one minus the greatest mean probability of voice activity in a
fifth of a second of the window.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import compression_ratio

if TYPE_CHECKING:
    from dragoman.transcriber.engine import Decoded

__all__ = ["best_of", "fails", "is_looping", "is_silence"]

_LOOP = 5  # times that something is said in a row at the end of a text before it counts as a loop
_LONGEST_LOOP = 40  # tokens of that something


def fails(decoded: "Decoded", options: TranscribeOptions) -> bool:
    """Return whether a text is to be decoded again at the next temperature."""
    return _repeats(decoded, options) or _is_doubtful(decoded, options)


def is_silence(decoded: "Decoded", options: TranscribeOptions) -> bool:
    """Return whether a window has no words, whatever was decoded."""
    threshold = options.no_speech_threshold
    if threshold is None or decoded.no_speech_prob is None or decoded.no_speech_prob <= threshold:
        return False
    return options.logprob_threshold is None or _is_doubtful(decoded, options)


def best_of(candidates: Sequence["Decoded"], options: TranscribeOptions) -> "Decoded":
    """Return the best of some texts that all failed; the first of equals."""
    return max(candidates, key=lambda one: (not _repeats(one, options), one.avg_logprob))


def is_looping(tokens: Sequence[int]) -> bool:
    """Return whether a text ends by saying the same over and over."""
    return any(
        len(tokens) >= _LOOP * size and list(tokens[-_LOOP * size :]) == list(tokens[-size:]) * _LOOP
        for size in range(1, _LONGEST_LOOP + 1)
    )


def _repeats(decoded: "Decoded", options: TranscribeOptions) -> bool:
    threshold = options.compression_ratio_threshold
    if threshold is None:
        return False
    return compression_ratio(decoded.text) > threshold or (decoded.truncated and is_looping(decoded.tokens))


def _is_doubtful(decoded: "Decoded", options: TranscribeOptions) -> bool:
    return options.logprob_threshold is not None and decoded.avg_logprob < options.logprob_threshold
