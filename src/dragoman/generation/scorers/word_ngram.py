"""An n-gram language model over words, read from an ARPA file, for shallow fusion with a decoder of subword tokens.

A word is scored when it is complete, by the token that begins the next word or ends the sequence. All tokens that begin
a word get that same score and those that continue a word get 0, so the scores of a sequence add up to the model's score
of its words. Not here: models over tokens (`ngram.py`), which score each token.
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
from dragoman.generation.scorers.row_states import repeat_rows, select_rows

Flags: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
Scores: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float32]]
Decode: TypeAlias = Callable[[Sequence[int]], str]

_UNKNOWN = "<unk>"


@dataclass(frozen=True, kw_only=True)
class WordStarts:
    """The tokens of a tokenizer that begin words.

    Attributes:
        begins: Tokens that begin a word, bool `[vocab]`.
        continues: Tokens whose word always continues in the next token (they end in `@@`), bool `[vocab]`.
    """

    begins: Flags
    continues: Flags


def word_starts(decode: Decode, vocab_size: int) -> WordStarts:
    """Find the tokens that begin words by decoding each of them between two copies of another token.

    Args:
        decode: Turns tokens into text, without special tokens and surrounding spaces.
        vocab_size: Size of the decoder's vocabulary.

    Raises:
        ConfigError: If no token consists of letters.
    """
    probe, text = _probe(decode, vocab_size)
    pair = decode([probe, probe])
    spaced = pair != text + text  # else the tokens are letters, and one of them is the space
    begins, continues = np.zeros(vocab_size, np.bool_), np.zeros(vocab_size, np.bool_)
    for token in range(vocab_size):
        between = decode([probe, token, probe])
        if between == pair:
            continue
        begins[token] = between[len(text) : len(text) + 1].isspace()
        continues[token] = spaced and not between[: -len(text)][-1:].isspace()
    return WordStarts(begins=begins, continues=continues)


def _probe(decode: Decode, vocab_size: int) -> tuple[int, str]:
    """Return a token of letters, if possible one that begins a word, and its text."""
    decoded = ((token, decode([token]).strip()) for token in range(vocab_size))
    of_letters = [(token, text) for token, text in decoded if text.isalpha()]
    for token, text in of_letters:
        if decode([token, token]).strip() == f"{text} {text}":
            return token, text
    if not of_letters:
        raise ConfigError("A language model over words needs a tokenizer with tokens that consist of letters.")
    return of_letters[0]


class _Reading(NamedTuple):
    """The state of a hypothesis: the last complete words, as in the language model, and the tokens of the next one."""

    words: Words
    tokens: tuple[int, ...]


class WordNGramModel:
    """A back-off n-gram model of words; a `StepDecoder` for shallow fusion (`Scorer`).

    A word is looked up without surrounding punctuation: as written, else in lower case, else as `<unk>`; if the file
    has no `<unk>`, an unknown word has the probability of the rarest one. Punctuation alone is not a word.

    Args:
        path: An ARPA file, plain or gzipped.
        starts: The result of `word_starts`.
        decode: As for `word_starts`.
        vocab_size: Size of the decoder's vocabulary.
        end: The id that ends a sequence.

    Raises:
        ConfigError: If the file is no ARPA file, or holds no words.
    """

    def __init__(self, path: str | Path, *, starts: WordStarts, decode: Decode, vocab_size: int, end: int) -> None:
        self._grams = {words: (log_prob, backoff) for words, log_prob, backoff in read_arpa(path)}
        single = [words[0] for words in self._grams if len(words) == 1 and not words[0].startswith("<")]
        if not single:
            raise ConfigError(f"{path} must be a language model over words, but has none.")
        self._order = max(map(len, self._grams))
        self._rarest = min(self._grams[(word,)][0] for word in single)
        self._starts, self._size, self._end = starts, vocab_size, end
        self._word = lru_cache(maxsize=2**16)(lambda tokens: _bare(decode(tokens)))

    expand = staticmethod(repeat_rows)
    select = staticmethod(select_rows)

    def start(self, prompt: Array) -> Step[tuple[_Reading, ...]]:
        """Start a sequence; the prompt is ignored."""
        return self._step((_Reading(self._cut(("<s>",)), ()),) * prompt.shape[0])

    def step(self, tokens: Array, state: tuple[_Reading, ...]) -> Step[tuple[_Reading, ...]]:
        """Read the next token of each row."""
        return self._step(tuple(self._read(one, t) for one, t in zip(state, to_numpy(tokens).tolist(), strict=True)))

    def _read(self, one: _Reading, token: int) -> _Reading:
        if not self._starts.begins[token] or (one.tokens and self._starts.continues[one.tokens[-1]]):
            return _Reading(one.words, (*one.tokens, token))
        return _Reading(self._completed(one)[0], (token,))

    def _completed(self, one: _Reading) -> tuple[Words, float]:
        """Return the words including the one in progress, and the score of that one."""
        bare = self._word(one.tokens)
        if not bare:
            return one.words, 0.0
        word = self._known(bare)
        return self._cut((*one.words, word)), self._log_prob(one.words, word)

    def _step(self, state: tuple[_Reading, ...]) -> Step[tuple[_Reading, ...]]:
        return Step(np.stack([self._scores(one) for one in state]), state)

    def _scores(self, one: _Reading) -> Scores:
        words, score = self._completed(one)
        continues = bool(one.tokens) and self._starts.continues[one.tokens[-1]]
        scores = np.zeros(self._size, np.float32) if continues else self._starts.begins * np.float32(score)
        scores[self._end] = score + self._log_prob(words, "</s>")
        return scores

    def _known(self, word: str) -> str:
        return next((form for form in (word, word.lower()) if (form,) in self._grams), _UNKNOWN)

    def _log_prob(self, words: Words, word: str) -> float:
        """Go from the longest context to the shortest, adding the back-off weight of each that lacks the word."""
        backoff = 0.0
        for start in range(len(words) + 1):
            known = self._grams.get((*words[start:], word))
            if known is not None:
                return backoff + known[0]
            backoff += self._grams.get(words[start:], (0.0, 0.0))[1]
        return backoff + self._rarest

    def _cut(self, words: Words) -> Words:
        return words[max(len(words) - self._order + 1, 0) :]


def _bare(text: str) -> str:
    """Return a word without surrounding spaces and punctuation."""
    text = text.strip()
    punctuation = {character for character in text if unicodedata.category(character)[0] == "P"}
    return text.strip("".join(punctuation))
