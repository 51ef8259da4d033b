"""An n-gram language model over the decoder's tokens, read from an ARPA file, for shallow fusion."""

import gzip
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import ConfigError
from dragoman.generation.arrays import Array
from dragoman.generation.decoder import Step
from dragoman.generation.scorers.row_states import repeat_rows, select_rows

Words: TypeAlias = tuple[str, ...]
Contexts: TypeAlias = tuple[tuple[int, ...], ...]

_LN10 = math.log(10.0)


@dataclass
class _Followers:
    """The entries of one context: tokens, their log-probabilities, and the context's back-off weight."""

    backoff: float = 0.0
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


class NGramModel:
    """A back-off n-gram model; a `StepDecoder` whose state is the last n - 1 tokens of each row.

    Args:
        path: An ARPA file, plain or gzipped, whose words are the tokens of the decoder's tokenizer (train it on
            tokenized text).
        tokens: The tokenizer's vocabulary: token -> id.
        vocab_size: Size of the decoder's vocabulary.
        start: The id for the file's `<s>`.
        end: The id for the file's `</s>`.

    Tokens that are not in the file have the probability of `<unk>`, or of the rarest word if there is no `<unk>`.

    Raises:
        ConfigError: If the file is no ARPA file, or holds none of the tokens.
    """

    def __init__(self, path: str | Path, tokens: Mapping[str, int], *, vocab_size: int, start: int, end: int) -> None:
        ids = {**tokens, "<s>": start, "</s>": end}
        self._after: dict[tuple[int, ...], _Followers] = {}
        self._order = 1
        unknown, rarest, known = None, 0.0, 0
        for words, log_prob, backoff in read_arpa(path):
            if len(words) == 1:
                unknown = log_prob if words[0] == "<unk>" else unknown
                rarest = min(rarest, log_prob)
            if all(word in ids for word in words):
                known += any(word in tokens for word in words)
                self._add(tuple(ids[word] for word in words), log_prob, backoff)
        if not known:
            raise ConfigError(
                f"{path} must hold n-grams of the tokenizer's tokens, but has none of its {len(tokens)} tokens. "
                f"Train it on text that was split by this tokenizer."
            )
        self._single = np.full(vocab_size, rarest if unknown is None else unknown, dtype=np.float32)
        self._write(self._single, self._after.get((), _Followers()))

    expand = staticmethod(repeat_rows)
    select = staticmethod(select_rows)

    def start(self, prompt: Array) -> Step[Contexts]:
        """Read the prompt, usually the start token."""
        return self._step(tuple(self._cut(tuple(row)) for row in to_numpy(prompt).tolist()))

    def step(self, tokens: Array, state: Contexts) -> Step[Contexts]:
        """Read the next token of each row."""
        new = to_numpy(tokens).tolist()
        return self._step(tuple(self._cut((*context, token)) for context, token in zip(state, new, strict=True)))

    def _add(self, ids: tuple[int, ...], log_prob: float, backoff: float) -> None:
        self._order = max(self._order, len(ids))
        before = self._after.setdefault(ids[:-1], _Followers())
        before.tokens.append(ids[-1])
        before.log_probs.append(log_prob)
        if backoff:
            self._after.setdefault(ids, _Followers()).backoff = backoff

    def _cut(self, context: tuple[int, ...]) -> tuple[int, ...]:
        return context[max(len(context) - self._order + 1, 0) :]

    def _step(self, contexts: Contexts) -> Step[Contexts]:
        rows = {context: self._log_probs(context) for context in set(contexts)}
        return Step(np.stack([rows[context] for context in contexts]), contexts)

    def _log_probs(self, context: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Go from the shortest context to the longest: add its back-off weight, then set its entries."""
        scores = self._single.copy()
        for start in reversed(range(len(context))):
            known = self._after.get(context[start:])
            if known is not None:
                scores += known.backoff
                self._write(scores, known)
        return scores

    @staticmethod
    def _write(scores: np.ndarray[tuple[int], np.dtype[np.float32]], known: _Followers) -> None:
        scores[known.tokens] = known.log_probs


def read_arpa(path: str | Path) -> Iterator[tuple[Words, float, float]]:
    """Read an ARPA file, plain or gzipped.

    Yields:
        Words, natural logarithm of their probability, and natural logarithm of the back-off weight (0 if there is
        none).

    Raises:
        ConfigError: If the file cannot be read, or a line has another format.
    """
    opener = gzip.open if str(path).endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from _entries(path, lines)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as an ARPA language model: {error}") from error


def _entries(path: str | Path, lines: Iterable[str]) -> Iterator[tuple[Words, float, float]]:
    order, ended = 0, False
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or (order == 0 and not line.startswith("\\1-grams:")):
            continue  # blank lines, and the counts at the start, which are not needed
        if line == "\\end\\":
            ended = True
            break
        if line.startswith("\\") and line.endswith("-grams:"):
            order += 1
            continue
        parts = line.split()
        try:
            if len(parts) not in (order + 1, order + 2):
                raise ValueError(f"expected {order} words with one or two numbers")
            backoff = float(parts[-1]) if len(parts) == order + 2 else 0.0
            yield tuple(parts[1 : order + 1]), float(parts[0]) * _LN10, backoff * _LN10
        except ValueError as error:
            raise ConfigError(f"Line {number} of {path} is not an entry of an ARPA language model: {error}.") from error
    if not ended:
        problem = "ends early" if order else "has no such line"
        raise ConfigError(f"{path} must be an ARPA language model, from \\1-grams: to \\end\\, but {problem}.")
