"""Rules that change the scores of the next token before one is chosen, and the order in which they apply.

A processor is called as `processor(tokens, length, scores)` and returns new scores:

* `tokens` int `[rows, max_length]`: the prompt and what was generated; only the first `length` columns mean anything.
* `length`: how many tokens there are already (a Python `int`, or a traced scalar inside `jax.jit`).
* `scores` float32 `[rows, vocab]`: raw logits in greedy search and sampling, log-probabilities in beam search.

What changes the distribution for sampling alone (temperature, top-k, ...) is in `sampling.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from math import log
from typing import Any, TypeAlias

import numpy as np

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Length, Ops, when
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.generation.rules import ids_of

__all__ = ["Processor", "UserProcessor", "build_processors"]

Processor: TypeAlias = Callable[[Array, Length, Array], Array]
UserProcessor: TypeAlias = Callable[[Array, Array], Array]
"""Hugging Face's form: `processor(input_ids [rows, length], scores [rows, vocab])`; only Python loops can call it."""

_MINUS_INFINITY = float("-inf")


def build_processors(
    ops: Ops,
    options: GenerationConfig,
    plan: Plan,
    like: Array,
    user: Sequence[UserProcessor] = (),
    prefix_allowed_tokens_fn: Callable[[int, Array], Sequence[int]] | None = None,
) -> list[Processor]:
    """Return the processors that `options` ask for, in upstream's order; none for rules that are off.

    Args:
        ops: The array library.
        options: What the user asked for.
        plan: The lengths and ids that follow from it.
        like: Logits `[rows, vocab]`, for their device and vocabulary size.
        user: The caller's own, which apply after all others but the warpers of `sampling.py`.
        prefix_allowed_tokens_fn: `f(utterance, tokens [length])` returns the ids that may follow.

    Raises:
        GenerationError: If an option names a token that is not in the vocabulary.
    """
    mask = _Masks(ops, like)
    ends = mask.of("eos_token_id", plan.eos) if plan.eos else None
    chain: list[Processor] = []
    if options.sequence_bias:
        chain.append(SequenceBias.of(mask, "sequence_bias", _pairs(options.sequence_bias)))
    if options.repetition_penalty != 1.0:
        chain.append(RepetitionPenalty(ops, options.repetition_penalty))
    if options.no_repeat_ngram_size > 0:
        chain.append(NoRepeatNGram(ops, options.no_repeat_ngram_size))
    bad_words = [ids for ids in options.bad_words_ids or () if not (len(ids) == 1 and ids[0] in plan.eos)]
    if bad_words:
        chain.append(SequenceBias.of(mask, "bad_words_ids", [(ids, _MINUS_INFINITY) for ids in bad_words]))
    if ends is not None and plan.min_length > 0:
        chain.append(Suppress(ops, ends, before=plan.min_length))
    if prefix_allowed_tokens_fn is not None:
        chain.append(PrefixAllowed(ops, prefix_allowed_tokens_fn, plan.num_beams * plan.num_samples))
    if options.forced_bos_token_id is not None:
        chain.append(Force(ops, mask.of("forced_bos_token_id", [options.forced_bos_token_id]), at=1))
    if options.forced_eos_token_id is not None:
        forced = mask.of("forced_eos_token_id", ids_of(options.forced_eos_token_id))
        chain.append(Force(ops, forced, at=plan.max_length - 1))
    if options.remove_invalid_values:
        chain.append(RemoveInvalid(ops))
    if options.exponential_decay_length_penalty is not None and ends is not None:
        start, factor = options.exponential_decay_length_penalty
        chain.append(ExponentialDecay(ops, ends, int(start) + plan.prompt_length, float(factor)))
    if options.suppress_tokens:
        chain.append(Suppress(ops, mask.of("suppress_tokens", options.suppress_tokens)))
    if options.begin_suppress_tokens:
        # Where the first token is forced, the first free one comes after it.
        begin = plan.prompt_length + (plan.prompt_length == 1 and options.forced_bos_token_id is not None)
        chain.append(Suppress(ops, mask.of("begin_suppress_tokens", options.begin_suppress_tokens), at=begin))
    chain.extend(ForUser(one) for one in user)
    return chain


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
        return when(self.ops, now, lambda: self.ops.xp.where(self.mask, _MINUS_INFINITY, scores), scores)


@dataclass(frozen=True)
class Force:
    """At one length, allow only the tokens of `mask` bool `[vocab]`, each with a score of 0."""

    ops: Ops
    mask: Array
    at: int

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        return when(
            self.ops, length == self.at, lambda: xp.where(self.mask, xp.zeros_like(scores), _MINUS_INFINITY), scores
        )


@dataclass(frozen=True)
class RepetitionPenalty:
    """Make every token that is already there less likely: negative scores times `penalty`, positive ones divided by it.

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
    """Forbid every token that would complete an n-gram which is already there (https://arxiv.org/abs/1705.04304)."""

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
        return xp.where(_columns(self.ops, tokens[:, self.size - 1 :], match, scores), _MINUS_INFINITY, scores)


@dataclass(frozen=True)
class SequenceBias:
    """Add a bias to the last token of each given sequence where the tokens before it are already there.

    Attributes:
        single: The biases of sequences of one token, float32 `[vocab]`.
        longer: For each length of what comes before the last token: those tokens `[n, before]`, the last tokens `[n]`
            and the biases float32 `[n]`.
    """

    ops: Ops
    single: Array
    longer: tuple[tuple[Array, Array, Array], ...]

    @staticmethod
    def of(mask: "_Masks", option: str, biases: Iterable[tuple[Sequence[int], float]]) -> "SequenceBias":
        """Prepare the arrays; of two biases for the same sequence the later one counts."""
        table = {tuple(ids): bias for ids, bias in biases}
        mask.check(option, {token for ids in table for token in ids})
        single = np.zeros(mask.size, dtype=np.float32)
        for ids, bias in table.items():
            if len(ids) == 1:
                single[ids[0]] = bias
        longer = []
        by_length = sorted((ids for ids in table if len(ids) > 1), key=len)
        for _, group in groupby(by_length, key=len):
            ids_array = np.asarray(list(group), dtype=np.int64)
            bias_array = np.asarray([table[tuple(ids)] for ids in ids_array.tolist()], dtype=np.float32)
            longer.append((mask.array(ids_array[:, :-1]), mask.array(ids_array[:, -1]), mask.array(bias_array)))
        return SequenceBias(mask.ops, mask.array(single), tuple(longer))

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

    Where every hypothesis of an utterance would be left with nothing but impossible tokens, the allowed ones get a
    score of 0.
    """

    ops: Ops
    function: Callable[[int, Array], Sequence[int]]
    rows_per_utterance: int

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp, rows = self.ops.xp, self.rows_per_utterance
        penalty = np.full(scores.shape, _MINUS_INFINITY, dtype=np.float32)
        for row in range(scores.shape[0]):
            allowed = list(self.function(row // rows, tokens[row, :length]))
            if not allowed:
                raise GenerationError(
                    f"`prefix_allowed_tokens_fn` must return at least one token id, but returned none for utterance "
                    f"{row // rows} after {tokens[row, :length].tolist()}. Return the end-of-text id to end a text."
                )
            penalty[row, allowed] = 0.0
        mask = xp.asarray(penalty, device=self.ops.device(scores))
        kept = scores + mask
        nothing = xp.max(kept, axis=-1) == _MINUS_INFINITY
        nothing = xp.all(xp.reshape(nothing, (-1, rows)), axis=-1, keepdims=True)
        nothing = xp.reshape(xp.broadcast_to(nothing, (nothing.shape[0], rows)), (-1, 1))
        return xp.where(nothing, mask, kept)


@dataclass(frozen=True)
class RemoveInvalid:
    """Replace NaN by 0 and infinities by the greatest finite numbers of their sign."""

    ops: Ops

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        xp = self.ops.xp
        greatest = xp.finfo(scores.dtype).max
        return xp.clip(xp.where(xp.isnan(scores), 0.0, scores), -greatest, greatest)


@dataclass(frozen=True)
class ExponentialDecay:
    """From `start` tokens on, raise the scores of the ends by their size times `factor ** (length - start) - 1`."""

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


@dataclass(frozen=True)
class ForUser:
    """A processor of the caller's in Hugging Face's form."""

    function: UserProcessor

    def __call__(self, tokens: Array, length: Length, scores: Array) -> Array:
        return self.function(tokens[:, :length], scores)


@dataclass(frozen=True)
class _Masks:
    """Turns lists of token ids into arrays beside the scores `like` `[rows, vocab]`, after checking them."""

    ops: Ops
    like: Array

    @property
    def size(self) -> int:
        return int(self.like.shape[-1])

    def array(self, values: Any) -> Array:
        return self.ops.xp.asarray(values, device=self.ops.device(self.like))

    def check(self, option: str, ids: Iterable[int]) -> None:
        strangers = sorted(token for token in ids if not 0 <= token < self.size)
        if strangers:
            raise GenerationError(
                f"`{option}` must hold token ids from 0 to {self.size - 1}, the decoder's vocabulary, but holds "
                f"{', '.join(map(str, strangers[:5]))}. Are they ids of another tokenizer?"
            )

    def of(self, option: str, ids: Sequence[int]) -> Array:
        self.check(option, ids)
        mask = np.zeros(self.size, dtype=bool)
        mask[list(ids)] = True
        return self.array(mask)


def _pairs(biases: Mapping[tuple[int, ...], float] | Sequence[Any]) -> list[tuple[Sequence[int], float]]:
    """Return (ids, bias) from either of the two forms of `sequence_bias`: a dictionary or a list of pairs."""
    return list(biases.items()) if isinstance(biases, Mapping) else [(ids, bias) for ids, bias in biases]


def _last(ops: Ops, tokens: Array, length: Length, count: int) -> Array:
    """Return the last `count` tokens before `length`, `[rows, count]`; arbitrary ones where there are fewer."""
    xp = ops.xp
    places = xp.arange(count, device=ops.device(tokens)) + (length - count)
    return xp.take(tokens, xp.clip(places, 0), axis=1)


def _columns(ops: Ops, ids: Array, chosen: Array, scores: Array) -> Array:
    """Return bool `[rows, vocab]`: the columns named by those `ids` `[rows, n]` that are `chosen` bool `[rows, n]`."""
    xp, size = ops.xp, scores.shape[1]
    # Tokens of a prompt may lie outside the output's vocabulary; they can never be generated.
    chosen = chosen & (ids < size)
    return ops.scatter_add(xp.clip(ids, 0, size - 1), xp.astype(chosen, scores.dtype), size) > 0
