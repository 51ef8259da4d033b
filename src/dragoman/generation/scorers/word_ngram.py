"""A language model of n-grams over words, read from an ARPA file, as a voice beside a decoder that writes tokens.

A word is scored when it is complete: by the token that begins the next word, or ends the text. All tokens that begin
words gain the same then, those that go on with a word nothing, so along a text the scores add up to the language
model's for its words. Not here: models over tokens (`ngram`), which have a say in each of them.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import ConfigError
from dragoman.generation.arrays import Array
from dragoman.generation.decoder import Step
from dragoman.generation.scorers.ngram import Words, read_arpa

__all__ = ["WordNGramModel", "WordStarts", "word_starts"]

Flags: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
Scores: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]
Decode: TypeAlias = Callable[[Sequence[int]], str]

_UNKNOWN = "<unk>"


@dataclass(frozen=True, kw_only=True)
class WordStarts:
    """Where a tokenizer's tokens begin words.

    Attributes:
        begins: Tokens that begin a word, bool `[vocab]`.
        holds_on: Tokens whose word always goes on with the next one (`@@` at their end), bool `[vocab]`.
    """

    begins: Flags
    holds_on: Flags


def word_starts(decode: Decode, vocab_size: int) -> WordStarts:
    """Find out which tokens begin words, from nothing but how they are written between two others.

    Args:
        decode: Turns tokens into text, without special ones and surrounding blanks.
        vocab_size: The size of the decoder's output.

    Raises:
        ConfigError: If no token writes a letter.
    """
    probe, text = _probe(decode, vocab_size)
    nothing = decode([probe, probe])
    parted = nothing != text + text  # else the tokens are letters, and one of them is the blank
    begins, holds_on = np.zeros(vocab_size, np.bool_), np.zeros(vocab_size, np.bool_)
    for token in range(vocab_size):
        between = decode([probe, token, probe])
        if between == nothing:
            continue
        begins[token] = between[len(text) : len(text) + 1].isspace()
        holds_on[token] = parted and not between[: -len(text)][-1:].isspace()
    return WordStarts(begins=begins, holds_on=holds_on)


def _probe(decode: Decode, vocab_size: int) -> tuple[int, str]:
    """Return a token that writes letters, if possible one that begins a word, and its text."""
    letters = ((token, decode([token]).strip()) for token in range(vocab_size))
    written = [(token, text) for token, text in letters if text.isalpha()]
    for token, text in written:
        if decode([token, token]).strip() == f"{text} {text}":
            return token, text
    if not written:
        raise ConfigError("A language model over words needs a tokenizer whose tokens write letters.")
    return written[0]


class Reading(NamedTuple):
    """What a hypothesis has written: the last words, as the language model knows them, and the tokens of the next."""

    words: Words
    tokens: tuple[int, ...]


class WordNGramModel:
    """Probabilities of words after the last n - 1, with back-off; a `StepDecoder` to be used as a `Scorer`.

    A word is looked up without the punctuation around it, as it is written, else in lower case, else as `<unk>`; where
    the file has no `<unk>`, an unknown word is as likely as the rarest one. Punctuation alone is no word.

    Args:
        path: An ARPA file, plain or gzipped.
        starts: Where words begin.
        decode: As of `word_starts`.
        vocab_size: The size of the decoder's output.
        end: The id that ends a text.

    Raises:
        ConfigError: If the file is no ARPA file, or has no words.
    """

    def __init__(self, path: str | Path, *, starts: WordStarts, decode: Decode, vocab_size: int, end: int) -> None:
        self._grams = {words: (log_prob, backoff) for words, log_prob, backoff in read_arpa(path)}
        single = [words[0] for words in self._grams if len(words) == 1 and not words[0].startswith("<")]
        if not single:
            raise ConfigError(f"{path} must be a language model over words, but has none.")
        self._order = max(map(len, self._grams))
        self._rarest = min(self._grams[(word,)][0] for word in single)
        self._starts, self._size, self._end = starts, vocab_size, end
        self._spell = lru_cache(maxsize=2**16)(lambda tokens: _bare(decode(tokens)))

    def start(self, prompt: Array) -> Step[tuple[Reading, ...]]:
        """Begin a text, whatever the prompt."""
        return self._step((Reading(self._cut(("<s>",)), ()),) * prompt.shape[0])

    def expand(self, state: tuple[Reading, ...], copies: int) -> tuple[Reading, ...]:
        """Repeat each row."""
        return tuple(one for one in state for _ in range(copies))

    def step(self, tokens: Array, state: tuple[Reading, ...]) -> Step[tuple[Reading, ...]]:
        """Read one more token of each row."""
        return self._step(tuple(self._read(one, t) for one, t in zip(state, to_numpy(tokens).tolist(), strict=True)))

    def select(self, state: tuple[Reading, ...], rows: Array) -> tuple[Reading, ...]:
        """Replace row i by row `rows[i]`."""
        return tuple(state[row] for row in to_numpy(rows).tolist())

    def _read(self, one: Reading, token: int) -> Reading:
        if not self._starts.begins[token] or (one.tokens and self._starts.holds_on[one.tokens[-1]]):
            return Reading(one.words, (*one.tokens, token))
        return Reading(self._completed(one)[0], (token,))

    def _completed(self, one: Reading) -> tuple[Words, float]:
        """Return the words with the next one among them, and the score of that one."""
        bare = self._spell(one.tokens)
        if not bare:
            return one.words, 0.0
        word = self._known(bare)
        return self._cut((*one.words, word)), self._log_prob(one.words, word)

    def _step(self, state: tuple[Reading, ...]) -> Step[tuple[Reading, ...]]:
        return Step(np.stack([self._scores(one) for one in state]), state)

    def _scores(self, one: Reading) -> Scores:
        words, gained = self._completed(one)
        goes_on = bool(one.tokens) and self._starts.holds_on[one.tokens[-1]]
        scores = np.zeros(self._size, np.float32) if goes_on else self._starts.begins * np.float32(gained)
        scores[self._end] = gained + self._log_prob(words, "</s>")
        return scores

    def _known(self, word: str) -> str:
        return next((form for form in (word, word.lower()) if (form,) in self._grams), _UNKNOWN)

    def _log_prob(self, words: Words, word: str) -> float:
        """Look from the longest context to the shortest, and pay for each step back."""
        paid = 0.0
        for start in range(len(words) + 1):
            known = self._grams.get((*words[start:], word))
            if known is not None:
                return paid + known[0]
            paid += self._grams.get(words[start:], (0.0, 0.0))[1]
        return paid + self._rarest

    def _cut(self, words: Words) -> Words:
        return words[max(len(words) - self._order + 1, 0) :]


def _bare(text: str) -> str:
    """Return a word without blanks and the punctuation around it."""
    text = text.strip()
    signs = {character for character in text if unicodedata.category(character)[0] == "P"}
    return text.strip("".join(signs))
