"""Joining the texts of two windows that both heard the speech around the cut between them.

Where nobody pauses, a cut goes through speech, and each window hears a little beyond it (`stride_length_s`). The rule:
of the tokens that the texts may have for the shared seconds, a run is found that both have in common, the longest
after what it lacks in place is taken off: as many tokens as its place makes the texts overlap by more or less than
even speech would. The texts are joined at the word of it that is nearest to its middle: up to there the left one
counts, from there on the right one. A run counts if a word begins in it, and if it is as long as a third of what even
speech would put into those seconds, two tokens at least. Without one both texts stay whole: rather a word twice than a
word lost.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from dragoman.transcriber.words import spell

if TYPE_CHECKING:
    from dragoman.transcriber.engine import Decoded, Engine

__all__ = ["common_run", "joined_at", "merged"]


def merged(
    engine: "Engine", left: "Decoded", right: "Decoded", shared: float, seconds: tuple[float, float]
) -> tuple["Decoded", "Decoded"]:
    """Return the texts of two windows without what both say.

    Args:
        engine: Turns tokens into text.
        left: Of the earlier window.
        right: Of the later window.
        shared: Seconds that both heard.
        seconds: How long each window is.
    """
    even = [shared / max(total, shared) * len(one.tokens) for one, total in zip((left, right), seconds, strict=True)]
    # Speech is not even: twice as much, and a little more, is looked at.
    tail, head = (min(len(one.tokens), ceil(2 * n) + 4) for one, n in zip((left, right), even, strict=True))
    offset = len(left.tokens) - tail
    i, j, length = common_run(left.tokens[offset:], right.tokens[:head], sum(even) / 2)
    if length < max(2, min(even) / 3):
        return left, right
    starts = [{*spell(one.tokens, engine.text).first, len(one.tokens)} for one in (left, right)]
    cut = joined_at(offset + i, j, length, *starts)
    if cut is None:
        return left, right
    return _part(engine, left, 0, cut[0]), _part(engine, right, cut[1], len(right.tokens))


def common_run(left: Sequence[int], right: Sequence[int], overlap: float) -> tuple[int, int, int]:
    """Return where the best run that two texts have in common begins in each, and its length.

    Args:
        left: Tokens at the end of the earlier text.
        right: Tokens at the beginning of the later text.
        overlap: By how many tokens the texts should overlap.
    """
    best, best_score, before = (0, 0, 0), -float("inf"), [0] * len(right)
    for i, token in enumerate(left):
        row = [0] * len(right)
        for j, other in enumerate(right):
            if token != other:
                continue
            row[j] = length = (before[j - 1] if j else 0) + 1
            start, its = i - length + 1, j - length + 1
            score = length - abs(len(left) - start + its - overlap)
            if score > best_score:
                best, best_score = (start, its, length), score
        before = row
    return best


def joined_at(i: int, j: int, length: int, left: set[int], right: set[int]) -> tuple[int, int] | None:
    """Return where to end the left text and to begin the right one, or `None` if no word begins in their run.

    Args:
        i: Where the run begins in the left text.
        j: Where it begins in the right one.
        length: Tokens of the run.
        left: Where words of the left text begin, and its end.
        right: The same of the right one.
    """
    places = [n for n in range(length + 1) if i + n in left and j + n in right]
    if not places:
        return None
    middle = min(places, key=lambda n: abs(2 * n - length))
    return i + middle, j + middle


def _part(engine: "Engine", decoded: "Decoded", first: int, last: int) -> "Decoded":
    """Return a part of a text; the log-probability of the end stays with the last token."""
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
        text=engine.text(tokens),
        tokens=tokens,
        log_probs=decoded.log_probs[first:end] or decoded.log_probs[-1:],
        alignment=alignment,
    )
