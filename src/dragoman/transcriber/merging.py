"""Joining the transcripts of two windows that overlap, because the cut between them goes through speech.

Where there is no pause, each window reaches a little beyond the cut (`stride_length_s`). Of the tokens that may belong
to the overlap, the best run common to both transcripts is the longest one, less a penalty for being out of place: the
number of tokens by which the overlap that it implies differs from what even speech would give. The transcripts are
joined at the word of the run nearest to its middle; the left one counts up to there, the right one from there on. A run
counts if a word begins in it, and if it has at least two tokens and a third of those that even speech would put into
the overlap. Without one both transcripts stay whole: a repeated word is better than a lost one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.words import find_words


def merged(
    text_of: Callable[[Sequence[int]], str], left: Decoded, right: Decoded, shared: float, seconds: tuple[float, float]
) -> tuple[Decoded, Decoded]:
    """Return the transcripts of two windows without what both say.

    Args:
        text_of: Turns tokens into text.
        left: Transcript of the earlier window.
        right: Transcript of the later window.
        shared: Seconds of overlap.
        seconds: Length of each window.
    """
    even = [shared / max(total, shared) * len(one.tokens) for one, total in zip((left, right), seconds, strict=True)]
    # Speech is not even: look at twice as many tokens, and a few more.
    tail, head = (min(len(one.tokens), ceil(2 * n) + 4) for one, n in zip((left, right), even, strict=True))
    offset = len(left.tokens) - tail
    i, j, length = common_run(left.tokens[offset:], right.tokens[:head], sum(even) / 2)
    if length < max(2, min(even) / 3):
        return left, right
    starts = [{*find_words(one.tokens, text_of).first, len(one.tokens)} for one in (left, right)]
    cut = joined_at(offset + i, j, length, *starts)
    if cut is None:
        return left, right
    return _part(text_of, left, 0, cut[0]), _part(text_of, right, cut[1], len(right.tokens))


def common_run(left: Sequence[int], right: Sequence[int], overlap: float) -> tuple[int, int, int]:
    """Return where the best common run begins in each of two transcripts, and its length.

    Args:
        left: Tokens at the end of the earlier transcript.
        right: Tokens at the beginning of the later transcript.
        overlap: Expected overlap, in tokens.
    """
    best, best_score, before = (0, 0, 0), -float("inf"), [0] * len(right)
    for i, token in enumerate(left):
        row = [0] * len(right)
        for j, other in enumerate(right):
            if token != other:
                continue
            row[j] = length = (before[j - 1] if j else 0) + 1
            left_start, right_start = i - length + 1, j - length + 1
            score = length - abs(len(left) - left_start + right_start - overlap)
            if score > best_score:
                best, best_score = (left_start, right_start, length), score
        before = row
    return best


def joined_at(i: int, j: int, length: int, left: set[int], right: set[int]) -> tuple[int, int] | None:
    """Return where to end the left transcript and to begin the right one; `None` if no word begins in their run.

    Args:
        i: Start of the run in the left transcript.
        j: Start of the run in the right one.
        length: Tokens of the run.
        left: Where the words of the left transcript begin, and its end.
        right: The same of the right one.
    """
    places = [n for n in range(length + 1) if i + n in left and j + n in right]
    if not places:
        return None
    middle = min(places, key=lambda n: abs(2 * n - length))
    return i + middle, j + middle


def _part(text_of: Callable[[Sequence[int]], str], decoded: Decoded, first: int, last: int) -> Decoded:
    """Return a part of a transcript; the log-probability of the end token stays with the last token."""
    if (first, last) == (0, len(decoded.tokens)):
        return decoded
    tokens, alignment = decoded.tokens[first:last], decoded.alignment
    if alignment is not None:
        alignment = replace(
            alignment, begins=alignment.begins[first : last + 1], matrix=alignment.matrix[first : last + 1]
        )
    end = None if last == len(decoded.tokens) else max(last, first + 1)
    return replace(
        decoded,
        text=text_of(tokens),
        tokens=tokens,
        log_probs=decoded.log_probs[first:end] or decoded.log_probs[-1:],
        alignment=alignment,
    )
