"""From tokens to words: the tokens of each word, its start and end, its probability.

Works with every tokenizer: it uses only the text that growing prefixes of the tokens decode to.
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

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True, kw_only=True)
class WordTokens:
    """Which tokens spell each word of a transcript.

    Positions are counted in tokens: 2.5 is the middle of the letters of the third token. Only words that share a token
    begin or end inside one.

    Attributes:
        words: The words, with the blanks before them; joined they are the text.
        first: The first token of each word.
        begins: Start of each word.
        letter_ends: End of its letters; what follows is punctuation, which takes no time itself but covers the pauses.
        ends: End of each word.
    """

    words: tuple[str, ...]
    first: tuple[int, ...]
    begins: tuple[float, ...]
    letter_ends: tuple[float, ...]
    ends: tuple[float, ...]


def find_words(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> WordTokens:
    """Find the words of a transcript and the tokens of each.

    Words are separated by blanks. In scripts without them (Chinese, Japanese, Thai…) a word is the text of a token.
    Punctuation stays with the word that it follows or opens.

    Args:
        tokens: Of the transcript, without prompt and end token.
        decode: Turns tokens into text, without special tokens.
    """
    text = decode(tokens)
    prefixes = [decode(tokens[: n + 1]) for n in range(len(tokens))]
    # Length of the text after each token, up to where later tokens change it: half a character does not count yet, and
    # neither does a blank before a full stop.
    ends = list(accumulate((common_prefix(text, prefix) for prefix in prefixes), max, initial=0))
    ends[-1] = len(text)
    is_half = [prefix.endswith("\ufffd") for prefix in prefixes]
    spans = _word_spans(text, set(ends))
    solid = list(accumulate((not character.isspace() for character in text), initial=0))

    def place(token: int, end: int) -> float:
        """Return the position, in tokens, of the character `end`, which belongs to `token`."""
        begin = solid[ends[token]]
        return token + (solid[end] - begin) / max(solid[ends[token + 1]] - begin, 1)

    first, begins, letter_ends, ended = [], [], [], []
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
        letter_ends.append(last_letter + 1 if last_letter < last else ended[-1])
    return WordTokens(
        words=tuple(text[begin:end] for begin, end in spans),
        first=tuple(first),
        begins=tuple(begins),
        letter_ends=tuple(letter_ends),
        ends=tuple(ended),
    )


def common_prefix(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the length of the common prefix of two sequences."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _length_to_letter(word: str) -> int:
    """Return the length of a word without trailing punctuation; the whole length if it has no letters."""
    letters = [place for place, character in enumerate(word, 1) if unicodedata.category(character)[0] in "LMNS"]
    return letters[-1] if letters else len(word)


def _word_spans(text: str, token_ends: set[int]) -> list[tuple[int, int]]:
    """Return the start and end of the words of a text, each with the blanks before it."""
    starts = []
    for match in re.finditer(r"\s*\S+", text):
        begin, end = match.span()
        starts.append(begin)
        starts += [place for place in range(begin + 1, end) if place in token_ends and _may_cut(text, place)]
    return list(pairwise([*starts, len(text.rstrip())])) if starts else []


def _may_cut(text: str, place: int) -> bool:
    """Return whether a word may begin at a place inside a run without blanks."""
    before, after = text[place - 1], text[place]
    if not (is_unspaced(before) and is_unspaced(after)):
        return False
    kinds = unicodedata.category(before), unicodedata.category(after)
    return kinds[0] not in ("Ps", "Pi") and kinds[1] not in ("Pe", "Pf", "Po") and kinds[1][0] != "M"


def split_words(text: str) -> list[str]:
    """Return the words of a text without tokens; in scripts without blanks, its characters."""
    return [text[begin:end] for begin, end in _word_spans(text, set(range(len(text))))]


def word_boundaries(word_tokens: WordTokens, begins: Array) -> Array:
    """Return the interval in which each word begins, and that in which the last one ends, in seconds `[words + 1, 2]`.

    An interval is longer than a point where the alignment gave time to punctuation: the word before ends, and the next
    one begins, somewhere in it.

    Args:
        word_tokens: At least one word.
        begins: Start of each token, and end of the last one, in seconds `[tokens + 1]`, never decreasing.
    """
    after = [*word_tokens.begins, word_tokens.ends[-1]]
    before = [word_tokens.begins[0], *word_tokens.letter_ends]
    moments = np.interp([before, after], np.arange(len(begins)), begins).T
    found: Array = np.minimum(moments, moments[:, 1:])
    return found


def timed_words(
    word_tokens: WordTokens, spans: Sequence[tuple[float, float]], log_probs: Sequence[float]
) -> tuple[Word, ...]:
    """Return the words with their timestamps and probabilities.

    Args:
        word_tokens: The words.
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
        for word, first, place, (start, end) in zip(
            word_tokens.words, word_tokens.first, word_tokens.ends, spans, strict=True
        )
    )
