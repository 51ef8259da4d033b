"""Rules that change the scores of the next token before one is chosen. Their order is in `chain.py`.

A processor is called as `processor(tokens, length, scores)` and returns new scores:

* `tokens` int `[rows, max_length]`: the prompt and the generated tokens; only the first `length` columns are valid.
* `length`: tokens so far (a Python `int`, or a traced scalar inside `jax.jit`).
* `scores` float32 `[rows, vocab]`: raw logits in greedy search and sampling, log-probabilities in beam search.

The filters that apply to sampling only (temperature, top-k, ...) are in `sampling.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from dragoman.errors import GenerationError
from dragoman.generation.arrays import MINUS_INFINITY, Array, Length, Ops, when

Processor: TypeAlias = Callable[[Array, Length, Array], Array]
UserProcessor: TypeAlias = Callable[[Array, Array], Array]
"""As in `transformers`: `processor(input_ids [rows, length], scores [rows, vocab])`; for Python loops only."""


@dataclass(frozen=True)
class Suppress:
    """Forbid the tokens of `mask` bool `[vocab]`: always, `before` a length, or `at` a length."""

    ops: Ops
    mask: Array
    before: int | None = None
    at: int | None = None

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        now = True if self.before is None else length < self.before
        if self.at is not None:
            now = length == self.at
        return when(self.ops, now, lambda: self.ops.xp.where(self.mask, MINUS_INFINITY, scores), scores)


@dataclass(frozen=True)
class Force:
    """At one length, allow only the tokens of `mask` bool `[vocab]`, each with a score of 0."""

    ops: Ops
    mask: Array
    at: int

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        return when(
            self.ops, length == self.at, lambda: xp.where(self.mask, xp.zeros_like(scores), MINUS_INFINITY), scores
        )


@dataclass(frozen=True)
class RepetitionPenalty:
    """Make every token that has occurred less likely: negative scores times `penalty`, positive ones divided by it.

    Reference: CTRL, section 4.1, https://arxiv.org/abs/1909.05858.
    """

    ops: Ops
    penalty: float

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        there = xp.arange(tokens.shape[1], device=self.ops.device(tokens)) < length
        seen = _columns(self.ops, tokens, there & (tokens >= 0), scores)
        return xp.where(seen, xp.where(scores < 0, scores * self.penalty, scores / self.penalty), scores)


@dataclass(frozen=True)
class NoRepeatNGram:
    """Forbid every token that would complete an n-gram that has occurred (https://arxiv.org/abs/1705.04304)."""

    ops: Ops
    size: int

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        windows = tokens.shape[1] - self.size + 1
        if windows <= 0:
            return scores
        last = _last(self.ops, tokens, length, self.size - 1)
        match = xp.arange(windows, device=self.ops.device(tokens)) <= length - self.size
        match = xp.broadcast_to(match, (tokens.shape[0], windows))
        for place in range(self.size - 1):
            match = match & (tokens[:, place : place + windows] == last[:, place : place + 1])
        return xp.where(_columns(self.ops, tokens[:, self.size - 1 :], match, scores), MINUS_INFINITY, scores)


@dataclass(frozen=True)
class SequenceBias:
    """Add a bias to the last token of each given sequence of tokens where the others have just been generated.

    Attributes:
        single: The biases of sequences of one token, float32 `[vocab]`.
        longer: Sequences of one length each: the tokens before the last `[n, before]`, the last tokens `[n]` and the
            biases float32 `[n]`.
    """

    ops: Ops
    single: Array
    longer: tuple[tuple[Array, Array, Array], ...]

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        scores = scores + self.single
        for group in self.longer:
            add = partial(self._add, tokens, length, scores, *group)
            scores = when(self.ops, length >= group[0].shape[1], add, scores)
        return scores

    def _add(self, tokens: Array, length: Length, scores: Array, before: Array, last: Array, bias: Array) -> Array:
        xp = self.ops.xp
        there = _last(self.ops, tokens, length, before.shape[1])[:, None, :] == before[None]
        values = xp.where(xp.all(there, axis=-1), bias, xp.zeros_like(bias))
        indices = xp.broadcast_to(last, (tokens.shape[0], last.shape[0]))
        return scores + self.ops.scatter_add(indices, values, scores.shape[1])


@dataclass(frozen=True)
class PrefixAllowed:
    """Allow only the tokens that the caller's function returns for the tokens so far. Python loops only.

    If that leaves no hypothesis of an utterance with a possible token, the allowed ones get a score of 0.
    """

    ops: Ops
    function: Callable[[int, Array], Sequence[int]]
    rows_per_utterance: int

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp, rows = self.ops.xp, self.rows_per_utterance
        penalty = np.full(scores.shape, MINUS_INFINITY, dtype=np.float32)
        for row in range(scores.shape[0]):
            allowed: list[Any] = list(self.function(row // rows, tokens[row, :length]))
            if not allowed:
                raise GenerationError(
                    f"`prefix_allowed_tokens_fn` must return at least one token id, but returned none for utterance "
                    f"{row // rows} after {tokens[row, :length].tolist()}. Return the end token's id to end it."
                )
            if not all(isinstance(token, Integral) and 0 <= int(token) < scores.shape[1] for token in allowed):
                raise GenerationError(
                    f"`prefix_allowed_tokens_fn` must return token ids from 0 to {scores.shape[1] - 1}, but returned "
                    f"{allowed!s:.80} for utterance {row // rows}."
                )
            penalty[row, allowed] = 0.0
        mask = xp.asarray(penalty, device=self.ops.device(scores))
        kept = scores + mask
        none = xp.max(kept, axis=-1) == MINUS_INFINITY
        none = xp.all(xp.reshape(none, (-1, rows)), axis=-1, keepdims=True)
        none = xp.reshape(xp.broadcast_to(none, (none.shape[0], rows)), (-1, 1))
        return xp.where(none, mask, kept)


@dataclass(frozen=True)
class Caller:
    """The caller's own processor, in the form of `transformers`: it takes the valid tokens only."""

    function: UserProcessor

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        found = self.function(tokens[:, :length], scores)
        shape = getattr(found, "shape", None)
        if shape is None or tuple(shape) != tuple(scores.shape):
            what = f"a {type(found).__name__}" if shape is None else f"the shape {list(shape)}"
            raise GenerationError(
                f"A logits processor must return scores of the shape it got, {list(scores.shape)}, but "
                f"{type(self.function).__name__} returned {what}."
            )
        return found


@dataclass(frozen=True)
class RemoveInvalid:
    """Replace NaN by 0 and infinities by the largest finite numbers of their sign."""

    ops: Ops

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        greatest = xp.finfo(scores.dtype).max
        return xp.clip(xp.where(xp.isnan(scores), 0.0, scores), -greatest, greatest)


@dataclass(frozen=True)
class ExponentialDecay:
    """From `start` tokens on, add to the end tokens' scores their magnitude times `factor ** (length - start) - 1`."""

    ops: Ops
    ends: Array
    start: int
    factor: float

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp

        def raised() -> Array:
            size = xp.abs(xp.where(self.ends & xp.isfinite(scores), scores, 0.0))
            exponent = xp.asarray((length - self.start) * log(self.factor), dtype=scores.dtype)
            return scores + size * (xp.exp(xp.clip(exponent, max=80.0)) - 1.0)  # beyond e^80, scores would be infinite

        return when(self.ops, length > self.start, raised, scores)


def _last(ops: Ops, tokens: Array, length: Length, count: int) -> Array:
    """Return the last `count` tokens before `length`, `[rows, count]`; arbitrary ones if there are fewer."""
    xp = ops.xp
    places = xp.arange(count, device=ops.device(tokens)) + (length - count)
    return xp.take(tokens, xp.clip(places, 0), axis=1)


def _columns(ops: Ops, ids: Array, chosen: Array, scores: Array) -> Array:
    """Return bool `[rows, vocab]`: the columns named by those `ids` `[rows, n]` that are `chosen` bool `[rows, n]`."""
    xp, size = ops.xp, scores.shape[1]
    # Tokens of a prompt may be outside the decoder's output vocabulary; they are never generated.
    chosen = chosen & (ids < size)
    return ops.scatter_add(xp.clip(ids, 0, size - 1), xp.astype(chosen, scores.dtype), size) > 0
