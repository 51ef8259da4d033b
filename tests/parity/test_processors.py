"""Each processor against that of `transformers`: 500 random cases each."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from transformers.generation import logits_process as reference

from dragoman.generation.arrays import ops_of
from dragoman.generation.chain import build_filters, build_processors
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of

VOCAB, CASES = 19, 500


class Situation(NamedTuple):
    """Sequences between two steps, int `[rows, length]` with a prompt, and raw scores `[rows, VOCAB]`."""

    tokens: torch.Tensor
    prompt_length: int
    max_length: int
    eos: list[int]
    scores: torch.Tensor


def situation(rng: random.Random) -> Situation:
    rows, prompt, new = rng.randrange(1, 5), rng.choice([1, 1, 2, 4]), rng.randrange(0, 8)
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    tokens = torch.randint(0, rng.choice([4, VOCAB]), (rows, prompt + new), generator=generator)
    scores = torch.randn(rows, VOCAB, generator=generator) * rng.choice([0.5, 3.0])
    return Situation(tokens, prompt, prompt + new + rng.randrange(1, 4), rng.choice([[0], [0, 2]]), scores)


def word(rng: random.Random) -> list[int]:
    return [rng.randrange(3, VOCAB) if rng.random() < 0.5 else rng.randrange(4) for _ in range(rng.choice([1, 2, 3]))]


def words(rng: random.Random, s: Situation) -> list[list[int]]:
    """Random words, and one that the first sequence is about to complete."""
    wanted = [word(rng) for _ in range(3)]
    return [*wanted, [*s.tokens[0, -2:].tolist(), rng.randrange(3, VOCAB)]]


Made = tuple[dict[str, Any], Any]


def sequence_bias(rng: random.Random, s: Situation) -> Made:
    bias = [[ids, rng.uniform(-4, 4)] for ids in words(rng, s)]
    return {"sequence_bias": bias}, reference.SequenceBiasLogitsProcessor(bias)


def bad_words_ids(rng: random.Random, s: Situation) -> Made:
    bad = [*words(rng, s), *([[0]] if rng.random() < 0.3 else [])]
    return {"bad_words_ids": bad}, reference.NoBadWordsLogitsProcessor(bad, torch.tensor(s.eos))


def min_length(rng: random.Random, s: Situation) -> Made:
    length = rng.randrange(1, s.max_length + 1)
    return {"min_length": length}, reference.MinLengthLogitsProcessor(length, torch.tensor(s.eos))


def min_new_tokens(rng: random.Random, s: Situation) -> Made:
    count = rng.randrange(1, s.max_length - s.prompt_length + 1)
    theirs = reference.MinNewTokensLengthLogitsProcessor(s.prompt_length, count, torch.tensor(s.eos))
    return {"min_new_tokens": count}, theirs


def forced_bos_token_id(rng: random.Random, s: Situation) -> Made:
    token = rng.randrange(VOCAB)
    return {"forced_bos_token_id": token}, reference.ForcedBOSTokenLogitsProcessor(token)


def forced_eos_token_id(rng: random.Random, s: Situation) -> Made:
    forced = rng.choice([s.eos, s.eos[:1]])
    return {"forced_eos_token_id": forced}, reference.ForcedEOSTokenLogitsProcessor(s.max_length, torch.tensor(forced))


def remove_invalid_values(rng: random.Random, s: Situation) -> Made:
    for value in (float("nan"), float("inf"), float("-inf")):
        s.scores[rng.randrange(len(s.scores)), rng.randrange(VOCAB)] = value
    return {"remove_invalid_values": True}, reference.InfNanRemoveLogitsProcessor()


def exponential_decay_length_penalty(rng: random.Random, s: Situation) -> Made:
    decay = (rng.randrange(4), rng.choice([0.8, 1.1, 1.5]))
    theirs = reference.ExponentialDecayLengthPenalty(decay, torch.tensor(s.eos), s.prompt_length)
    return {"exponential_decay_length_penalty": decay}, theirs


def suppress_tokens(rng: random.Random, s: Situation) -> Made:
    tokens = [rng.randrange(VOCAB) for _ in range(4)]
    return {"suppress_tokens": tokens}, reference.SuppressTokensLogitsProcessor(tokens)


def begin_suppress_tokens(rng: random.Random, s: Situation) -> Made:
    tokens = [rng.randrange(VOCAB) for _ in range(4)]
    return {"begin_suppress_tokens": tokens}, reference.SuppressTokensAtBeginLogitsProcessor(tokens, s.prompt_length)


def renormalize_logits(rng: random.Random, s: Situation) -> Made:
    return {"renormalize_logits": True}, reference.LogitNormalization()


def prefix_allowed_tokens_fn(rng: random.Random, s: Situation) -> Made:
    def allowed(utterance: int, tokens: torch.Tensor) -> list[int]:
        return [(utterance + int(tokens.sum()) + k * k) % VOCAB for k in range(4)]

    return {"prefix_allowed_tokens_fn": allowed}, reference.PrefixConstrainedLogitsProcessor(allowed, 1)


# Processors with one argument: the class of `transformers`, and values.
ONE_VALUE: dict[str, tuple[Any, Sequence[float]]] = {
    "repetition_penalty": (reference.RepetitionPenaltyLogitsProcessor, [0.6, 1.2, 3.0]),
    "no_repeat_ngram_size": (reference.NoRepeatNGramLogitsProcessor, [1, 2, 3]),
    "temperature": (reference.TemperatureLogitsWarper, [0.3, 0.9, 2.5]),
    "top_k": (reference.TopKLogitsWarper, range(1, VOCAB + 4)),
    "top_p": (reference.TopPLogitsWarper, [0.0, 0.2, 0.7, 0.95, 0.999]),
    "min_p": (reference.MinPLogitsWarper, [0.01, 0.1, 0.5]),
    "typical_p": (reference.TypicalLogitsWarper, [0.1, 0.5, 0.9]),
    "epsilon_cutoff": (reference.EpsilonLogitsWarper, [0.01, 0.1, 0.3]),
    "eta_cutoff": (reference.EtaLogitsWarper, [0.01, 0.1, 0.3]),
}


def one_value(name: str, rng: random.Random, s: Situation) -> Made:
    theirs, values = ONE_VALUE[name]
    value = rng.choice(values)
    return {name: value}, theirs(value)


OTHERS = (
    sequence_bias,
    bad_words_ids,
    min_length,
    min_new_tokens,
    forced_bos_token_id,
    forced_eos_token_id,
    remove_invalid_values,
    exponential_decay_length_penalty,
    suppress_tokens,
    begin_suppress_tokens,
    renormalize_logits,
    prefix_allowed_tokens_fn,
)
MAKERS: dict[str, Callable[[random.Random, Situation], Made]] = {maker.__name__: maker for maker in OTHERS}
MAKERS |= {name: partial(one_value, name) for name in ONE_VALUE}


@pytest.mark.parametrize("name", MAKERS)
def test_processor_equals_transformers(name: str) -> None:
    rng, changed = random.Random(name), 0
    for case in range(CASES):
        s = situation(rng)
        given, theirs = MAKERS[name](rng, s)
        allowed = given.pop("prefix_allowed_tokens_fn", None)
        options = GenerationConfig(
            **{"do_sample": True, "top_k": 0, "max_length": s.max_length, "eos_token_id": s.eos, **given}
        )
        expected = theirs(s.tokens, s.scores.clone())
        ops, plan = ops_of(s.tokens), plan_of(options, s.prompt_length, None)
        found, buffer = s.scores.clone(), torch.nn.functional.pad(s.tokens, (0, s.max_length - s.tokens.shape[1]))
        for processor in (
            *build_processors(ops, options, plan, found, prefix_allowed_tokens_fn=allowed),
            *build_filters(ops, options, plan),
        ):
            found = processor(buffer, s.tokens.shape[1], found)
        assert torch.allclose(found, expected, atol=1e-5), f"case {case}"
        changed += not torch.equal(expected, s.scores)
    assert changed > CASES / 40, "the cases must be about something"
