"""The processors and filters that the options of `generate` ask for, in the order in which they apply."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from dragoman.errors import GenerationError
from dragoman.generation.arrays import MINUS_INFINITY, Array, Ops
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.generation.processors import (
    Caller,
    ExponentialDecay,
    Force,
    NoRepeatNGram,
    PrefixAllowed,
    Processor,
    RemoveInvalid,
    RepetitionPenalty,
    SequenceBias,
    Suppress,
    UserProcessor,
)
from dragoman.generation.rules import ids_of
from dragoman.generation.sampling import epsilon, eta, min_p, top_k, top_p, typical
from dragoman.generation.timestamps import Timestamps


def build_processors(
    ops: Ops,
    options: GenerationConfig,
    plan: Plan,
    like: Array,
    user: Sequence[UserProcessor] = (),
    prefix_allowed_tokens_fn: Callable[[int, Array], Sequence[int]] | None = None,
) -> list[Processor]:
    """Return the processors that `options` ask for, in the order of `transformers`.

    Args:
        ops: The array library.
        options: The options of the call.
        plan: The lengths and ids that follow from them.
        like: Logits `[rows, vocab]`, for their device and vocabulary size.
        user: The caller's own processors, which come last.
        prefix_allowed_tokens_fn: `f(utterance, tokens [length])` returns the ids that may follow.

    Raises:
        GenerationError: If an option names a token that is not in the vocabulary.
    """
    vocabulary = _Vocabulary(ops, like)
    ends = vocabulary.mask("eos_token_id", plan.eos) if plan.eos else None
    chain: list[Processor] = []
    if biases := options.sequence_bias:  # either form: a dictionary, or a list of pairs
        biases = list(biases.items()) if isinstance(biases, Mapping) else biases
        chain.append(vocabulary.sequence_bias("sequence_bias", biases))
    if options.repetition_penalty != 1.0:
        chain.append(RepetitionPenalty(ops, options.repetition_penalty))
    if options.no_repeat_ngram_size > 0:
        chain.append(NoRepeatNGram(ops, options.no_repeat_ngram_size))
    bad_words = [ids for ids in options.bad_words_ids or () if not (len(ids) == 1 and ids[0] in plan.eos)]
    if bad_words:
        chain.append(vocabulary.sequence_bias("bad_words_ids", [(ids, MINUS_INFINITY) for ids in bad_words]))
    if ends is not None and plan.min_length > 0:
        chain.append(Suppress(ops, ends, before=plan.min_length))
    if prefix_allowed_tokens_fn is not None:
        chain.append(PrefixAllowed(ops, prefix_allowed_tokens_fn, plan.num_beams * plan.num_samples))
    if options.forced_bos_token_id is not None:
        chain.append(Force(ops, vocabulary.mask("forced_bos_token_id", [options.forced_bos_token_id]), at=1))
    if options.forced_eos_token_id is not None:
        forced = vocabulary.mask("forced_eos_token_id", ids_of(options.forced_eos_token_id))
        chain.append(Force(ops, forced, at=plan.max_length - 1))
    if options.remove_invalid_values:
        chain.append(RemoveInvalid(ops))
    if options.exponential_decay_length_penalty is not None:
        if ends is None:  # known here alone: options that are given in a call may leave the end token to the model
            raise GenerationError(
                "`exponential_decay_length_penalty` raises the score of the end token, but `eos_token_id` is not set. "
                "Set it."
            )
        start, factor = options.exponential_decay_length_penalty
        chain.append(ExponentialDecay(ops, ends, int(start) + plan.prompt_length, float(factor)))
    if options.suppress_tokens:
        if len(set(options.suppress_tokens)) >= vocabulary.size:
            raise GenerationError(
                f"`suppress_tokens` forbids all {vocabulary.size} tokens of the vocabulary. Leave some out."
            )
        chain.append(Suppress(ops, vocabulary.mask("suppress_tokens", options.suppress_tokens)))
    if options.begin_suppress_tokens:
        # Where the first token is forced, suppression applies to the one after it.
        begin = plan.prompt_length + (plan.prompt_length == 1 and options.forced_bos_token_id is not None)
        chain.append(Suppress(ops, vocabulary.mask("begin_suppress_tokens", options.begin_suppress_tokens), at=begin))
    for position, token in plan.forced:
        chain.append(Force(ops, ops.xp.arange(vocabulary.size, device=ops.device(like)) == token, at=position))
    if options.return_timestamps and options.no_timestamps_token_id is not None:
        first, end = options.no_timestamps_token_id + 1, plan.eos[0] if plan.eos else 0
        chain.append(Timestamps(ops, first, end, plan.prompt_length, options.max_initial_timestamp_index))
    chain.extend(map(Caller, user))
    return chain


def build_filters(ops: Ops, options: GenerationConfig, plan: Plan) -> list[Processor]:
    """Return the filters of sampling, in the order of `transformers`, and a last normalisation if asked for.

    They apply after all processors.
    """
    o, keep = options, plan.min_tokens_to_keep
    filters: tuple[tuple[bool, Callable[[Array], Array]], ...] = (
        (o.temperature != 1.0, lambda scores: scores / o.temperature),
        (o.top_k > 0, lambda scores: top_k(ops, scores, max(o.top_k, keep))),
        (o.top_p < 1.0, lambda scores: top_p(ops, scores, o.top_p, keep)),
        (o.min_p is not None, lambda scores: min_p(ops, scores, o.min_p or 0.0, keep)),
        (o.typical_p < 1.0, lambda scores: typical(ops, scores, o.typical_p, keep)),
        (o.epsilon_cutoff > 0.0, lambda scores: epsilon(ops, scores, o.epsilon_cutoff, keep)),
        (o.eta_cutoff > 0.0, lambda scores: eta(ops, scores, o.eta_cutoff, keep)),
    )
    chain = [one for is_on, one in filters if is_on and o.do_sample]
    if o.renormalize_logits:
        chain.append(ops.log_softmax)
    return [lambda tokens, length, scores, one=one: one(scores) for one in chain]  # type: ignore[misc]


@dataclass(frozen=True)
class _Vocabulary:
    """Turns token ids into arrays over the vocabulary of the scores `like` `[rows, vocab]`, after checking them."""

    ops: Ops
    like: Array

    @property
    def size(self) -> int:
        return int(self.like.shape[-1])

    def mask(self, option: str, ids: Sequence[int]) -> Array:
        """Return bool `[vocab]`, true for `ids`."""
        self._check(option, ids)
        mask = np.zeros(self.size, dtype=bool)
        mask[list(ids)] = True
        return self._array(mask)

    def sequence_bias(self, option: str, biases: Iterable[tuple[Sequence[int], float]]) -> SequenceBias:
        """Return the processor for (ids, bias); of two biases for the same ids the later one counts."""
        table = {tuple(ids): bias for ids, bias in biases}
        self._check(option, {token for ids in table for token in ids})
        single = np.zeros(self.size, dtype=np.float32)
        for ids, bias in table.items():
            if len(ids) == 1:
                single[ids[0]] = bias
        longer = []
        by_length = sorted((ids for ids in table if len(ids) > 1), key=len)
        for _, group in groupby(by_length, key=len):
            ids_array = np.asarray(list(group), dtype=np.int64)
            bias_array = np.asarray([table[tuple(ids)] for ids in ids_array.tolist()], dtype=np.float32)
            longer.append((self._array(ids_array[:, :-1]), self._array(ids_array[:, -1]), self._array(bias_array)))
        return SequenceBias(self.ops, self._array(single), tuple(longer))

    def _array(self, values: Any) -> Array:
        return self.ops.xp.asarray(values, device=self.ops.device(self.like))

    def _check(self, option: str, ids: Iterable[int]) -> None:
        unknown = sorted(token for token in ids if not 0 <= token < self.size)
        if unknown:
            raise GenerationError(
                f"`{option}` must hold token ids from 0 to {self.size - 1}, the decoder's vocabulary, but holds "
                f"{', '.join(map(str, unknown[:5]))}. Are they ids of another tokenizer?"
            )
