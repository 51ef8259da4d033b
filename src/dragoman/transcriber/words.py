"""From tokens to words: which tokens write a word, when it begins and ends, how sure the model is of it.

Works with every tokenizer, since it only looks at what a text decodes to, token by token.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from math import ceil
from typing import Any, TypeAlias

import numpy as np

from dragoman.transcriber.result import Word, is_unspaced

__all__ = ["Spelling", "boundaries", "spell", "split_words", "timed"]

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How tokens write the words of a text.

    Places in a text are counted in tokens: 2.5 is the middle of the third one's letters. Only words that share a token
    begin or end inside one.

    Attributes:
        words: The words, with the blanks before them; joined they are the text.
        first: The first token of each word.
        begins: Where each word begins.
        lettered: Where its letters end; what follows is punctuation, which takes no time but is given that of pauses.
        ends: Where it ends.
    """

    words: tuple[str, ...]
    first: tuple[int, ...]
    begins: tuple[float, ...]
    lettered: tuple[float, ...]
    ends: tuple[float, ...]


def spell(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Spelling:
    """Find the words of a text, and the tokens that write each of them.

    A word is what stands between blanks. In scripts without blanks between words (Chinese, Japanese, Thai…) it is what
    a token writes; punctuation stays with the word that it follows or opens.

    Args:
        tokens: Of the text, without prompt and end.
        decode: Turns tokens into text, special ones left out.
    """
    text = decode(tokens)
    prefixes = [decode(tokens[: n + 1]) for n in range(len(tokens))]
    # What is written after each token, as far as the rest of the text leaves it as it is: half a character does not
    # count yet, a blank before a full stop not either.
    ends = list(accumulate((_agreement(text, prefix) for prefix in prefixes), max, initial=0))
    ends[-1] = len(text)
    is_half = [prefix.endswith("\ufffd") for prefix in prefixes]
    spans = _word_spans(text, set(ends))
    solid = list(accumulate((not character.isspace() for character in text), initial=0))

    def place(token: int, end: int) -> float:
        """Return how many tokens come before a place in the text that lies in `token`."""
        begin = solid[ends[token]]
        return token + (solid[end] - begin) / max(solid[ends[token + 1]] - begin, 1)

    first, begins, lettered, ended = [], [], [], []
    for begin, end in spans:
        word = text[begin:end]
        start = begin + len(word) - len(word.lstrip())
        token = int(np.searchsorted(ends, start, side="right")) - 1
        shared = text[ends[token] : start].strip() != ""
        begins.append(place(token, start) if shared else token)
        while token and is_half[token - 1] and ends[token] == start:  # began with the first half of its character
            token -= 1
            begins[-1] = token
        first.append(token)
        last, last_letter = (int(np.searchsorted(ends, e)) - 1 for e in (end, begin + _length_to_letter(word)))
        ended.append(place(last, end))
        lettered.append(last_letter + 1 if last_letter < last else ended[-1])
    return Spelling(
        words=tuple(text[begin:end] for begin, end in spans),
        first=tuple(first),
        begins=tuple(begins),
        lettered=tuple(lettered),
        ends=tuple(ended),
    )


def _agreement(text: str, other: str) -> int:
    """Return with how many characters both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))


def _length_to_letter(word: str) -> int:
    """Return the length of a word without the punctuation at its end; of one without letters, its length."""
    letters = [place for place, character in enumerate(word, 1) if unicodedata.category(character)[0] in "LMNS"]
    return letters[-1] if letters else len(word)


def _word_spans(text: str, token_ends: set[int]) -> list[tuple[int, int]]:
    """Return where the words of a text are, each with the blanks before it."""
    starts = []
    for match in re.finditer(r"\s*\S+", text):
        begin, end = match.span()
        starts.append(begin)
        starts += [place for place in range(begin + 1, end) if place in token_ends and _may_cut(text, place)]
    return list(pairwise([*starts, len(text.rstrip())])) if starts else []


def _may_cut(text: str, place: int) -> bool:
    """Return whether a word may begin inside a run of characters without blanks."""
    before, after = text[place - 1], text[place]
    if not (is_unspaced(before) and is_unspaced(after)):
        return False
    kinds = unicodedata.category(before), unicodedata.category(after)
    return kinds[0] not in ("Ps", "Pi") and kinds[1] not in ("Pe", "Pf", "Po") and kinds[1][0] != "M"


def split_words(text: str) -> list[str]:
    """Return the words of a text that no tokens are known of; in scripts without blanks, its characters."""
    return [text[begin:end] for begin, end in _word_spans(text, set(range(len(text))))]


def boundaries(spelling: Spelling, begins: Array) -> Array:
    """Return between which moments each word begins, and the last one ends, `[words + 1, 2]`.

    The two differ where punctuation was given time: somewhere in it the word before ends and the next one begins.

    Args:
        spelling: At least one word.
        begins: When each token begins, and when the last one ends, in seconds `[tokens + 1]`, never falling.
    """
    after = [*spelling.begins, spelling.ends[-1]]
    before = [spelling.begins[0], *spelling.lettered]
    moments = np.interp([before, after], np.arange(len(begins)), begins).T
    found: Array = np.minimum(moments, moments[:, 1:])
    return found


def timed(spelling: Spelling, spans: Sequence[tuple[float, float]], log_probs: Sequence[float]) -> tuple[Word, ...]:
    """Return the words with their times and probabilities.

    Args:
        spelling: The words.
        spans: Start and end of each, in seconds.
        log_probs: Natural-log probability of each token.
    """
    probabilities = np.exp(np.asarray(log_probs, np.float64))
    return tuple(
        Word(
            word=word,
            start=round(start, 3),
            end=round(end, 3),
            probability=round(float(probabilities[first : ceil(place)].mean()), 4),
        )
        for word, first, place, (start, end) in zip(spelling.words, spelling.first, spelling.ends, spans, strict=True)
    )
