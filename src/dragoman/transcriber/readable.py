"""Which words a subtitle shows, if the user sets no layout: cues that end with sentences and at pauses, easy to read.

A cue has at most two lines of 42 characters and lasts 1 to 7 seconds, as broadcasters ask for. Between pauses, which
always end a cue, the division with the lowest total cost is found by dynamic programming.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol, TypeVar

from dragoman.transcriber.sentences import PAUSE, ends_sentence

MAX_WIDTH, MAX_LINES = 42, 2
MIN_MS, MAX_MS = 1_000, 7_000
_SHORT_PAUSE_MS = 250  # at which a cue may end without cutting a phrase

# Costs, relative to that of one more cue.
_EMPTY, _CUT_PHRASE, _CUT_CLAUSE, _INNER_SENTENCE, _TOO_SHORT = 0.5, 0.7, 0.3, 2.5, 3.0

_CLAUSE_ENDS = tuple(",;:—–،؛、，；：")


class Timed(Protocol):
    """A word on the screen, with the blank before it and its time in milliseconds."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def word(self) -> str: ...
    @property
    def width(self) -> int: ...


_Word = TypeVar("_Word", bound=Timed)


def grouped(words: Sequence[_Word]) -> list[list[_Word]]:
    """Return the words of each cue.

    Args:
        words: In order, not overlapping.
    """
    begins = [0, *(n for n in range(1, len(words)) if words[n].start - words[n - 1].end >= PAUSE * 1000), len(words)]
    cues: list[list[_Word]] = []
    for begin, end in pairwise(begins):
        following = words[end].start if end < len(words) else None
        cues += _divided(words[begin:end], following)
    return cues


def _divided(words: Sequence[_Word], following: int | None) -> list[list[_Word]]:
    """Divide the words between two pauses; `following` is the start of the word after them."""
    best: list[tuple[float, int]] = [(0.0, 0)]  # cost of the first n words, and where their last cue begins
    for end in range(1, len(words) + 1):
        after = words[end].start if end < len(words) else following
        costs = []
        for begin in range(end - 1, -1, -1):
            if begin < end - 1 and not _fits(words[begin:end]):
                break
            costs.append((best[begin][0] + _cost(words[begin:end], after), begin))
        best.append(min(costs))
    cues, end = [], len(words)
    while end:
        begin = best[end][1]
        cues.append(list(words[begin:end]))
        end = begin
    return cues[::-1]


def _fits(words: Sequence[Timed]) -> bool:
    return words[-1].end - words[0].start <= MAX_MS and len(_filled(words)) <= MAX_LINES


def _cost(words: Sequence[Timed], after: int | None) -> float:
    last, width = words[-1], sum(one.width for one in words)
    cost = 1 + _EMPTY * max(0.0, 1 - width / (MAX_LINES * MAX_WIDTH)) ** 2
    pause = after is None or after - last.end >= _SHORT_PAUSE_MS
    if not (pause or _ends(last.word)):
        cost += _CUT_CLAUSE if last.word.endswith(_CLAUSE_ENDS) else _CUT_PHRASE
    shown = min(after, words[0].start + MIN_MS) if after is not None else words[0].start + MIN_MS
    if max(last.end, shown) - words[0].start < MIN_MS:
        cost += _TOO_SHORT
    return cost + _INNER_SENTENCE * sum(_ends(one.word) for one in words[:-1])


@cache
def _ends(word: str) -> bool:
    return ends_sentence(word.strip())


def in_lines(words: Sequence[_Word]) -> list[list[_Word]]:
    """Break a cue into as few lines as it needs, two of them at the most even place."""
    total = _line_width(words)
    if total <= MAX_WIDTH:
        return [list(words)]
    breaks = [
        (max(widths), place)
        for place in range(1, len(words))
        if max(widths := (_line_width(words[:place]), _line_width(words[place:]))) <= MAX_WIDTH
    ]
    if breaks:
        _, place = min(breaks)
        return [list(words[:place]), list(words[place:])]
    return _filled(words)  # a word is longer than a line


def _filled(words: Sequence[_Word]) -> list[list[_Word]]:
    """Fill one line after the other."""
    lines: list[list[_Word]] = []
    used = 0
    for one in words:
        if lines and used + one.width <= MAX_WIDTH:
            lines[-1].append(one)
            used += one.width
        else:
            lines.append([one])
            used = _line_width([one])
    return lines


def _line_width(words: Sequence[Timed]) -> int:
    blank = words[0].word[:1].isspace()
    return sum(one.width for one in words) - blank
