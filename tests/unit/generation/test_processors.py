"""Edge cases; tests/parity compares the effects with `transformers`, tests/property with plain Python."""

from typing import Any

import numpy as np
import pytest

from dragoman.errors import GenerationError
from dragoman.generation.arrays import ops_of
from dragoman.generation.chain import build_processors
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of
from dragoman.generation.processors import Processor

SCORES = np.array([[0.5, -1.0, 2.0, 0.1, -0.3], [1.0, 0.0, -2.0, 0.7, 0.2]], dtype=np.float32)
OPS = ops_of(SCORES)


def chain_of(like: np.ndarray = SCORES, prompt_length: int = 1, user: Any = (), **options: Any) -> list[Processor]:
    config = GenerationConfig(eos_token_id=4, pad_token_id=0, max_new_tokens=6, **options)
    return build_processors(OPS, config, plan_of(config, prompt_length, None), like, user)


def apply(tokens: list[list[int]], length: int, scores: np.ndarray = SCORES, **options: Any) -> np.ndarray:
    before = scores.copy()
    for processor in chain_of(scores, **options):
        scores = processor(np.array(tokens), length, scores)
    return scores if scores is not before else before


def test_no_processors_for_rules_that_are_off() -> None:
    assert chain_of() == []
    assert chain_of(suppress_tokens=[], bad_words_ids=[[4]], sequence_bias={}, min_length=0) == []


def test_scores_are_not_changed_in_place() -> None:
    before = SCORES.copy()
    apply([[1, 2, 1, 0], [3, 3, 3, 0]], 3, repetition_penalty=2.0, no_repeat_ngram_size=1, suppress_tokens=[0])
    np.testing.assert_array_equal(SCORES, before)


def test_tokens_beyond_the_length_are_ignored() -> None:
    options = {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "bad_words_ids": [[1, 2]]}
    short = apply([[1, 2, 1, 0, 0], [3, 3, 0, 0, 0]], 2, **options)
    long = apply([[1, 2, 3, 4, 4], [3, 3, 1, 2, 1]], 2, **options)
    np.testing.assert_array_equal(short, long)


def test_prompt_tokens_outside_the_vocabulary_are_ignored() -> None:
    found = apply([[99, 2, 0, 0, 0], [1, 99, 0, 0, 0]], 2, repetition_penalty=2.0, no_repeat_ngram_size=1)
    assert np.isneginf(found).nonzero()[1].tolist() == [2, 1]
    np.testing.assert_array_equal(found[0, [0, 1, 3, 4]], SCORES[0, [0, 1, 3, 4]])


@pytest.mark.parametrize("tokens", [[[1]], [[1, 2]]])
def test_ngram_longer_than_the_sequence_forbids_nothing(tokens: list[list[int]]) -> None:
    scores = SCORES[:1]
    np.testing.assert_array_equal(apply(tokens, len(tokens[0]), scores, no_repeat_ngram_size=7), scores)


def test_overlapping_biases_add_up_and_later_duplicates_win() -> None:
    bias = [[[2], 1.0], [[1, 2], 10.0], [[3, 1, 2], 100.0], [[9], 0.0], [[3], 5.0], [[3], 7.0]]
    like = np.zeros((1, 10), dtype=np.float32)
    found = apply([[3, 1, 0, 0, 0, 0, 0]], 2, like, sequence_bias=bias)
    assert found[0].tolist() == [0, 0, 111, 7, 0, 0, 0, 0, 0, 0]


def test_forced_first_and_last_tokens() -> None:
    tokens = [[1, 0, 0, 0, 0, 0, 0]] * 2
    options = {"forced_bos_token_id": 3, "forced_eos_token_id": [4, 2]}
    first, second, last = (apply(tokens, length, **options) for length in (1, 2, 6))
    assert np.isfinite(first).nonzero()[1].tolist() == [3, 3]
    assert first[0, 3] == 0.0
    np.testing.assert_array_equal(second, SCORES)
    assert np.isfinite(last).nonzero()[1].tolist() == [2, 4, 2, 4]


@pytest.mark.parametrize(("forced", "prompt_length", "at"), [(None, 1, 1), (3, 1, 2), (3, 2, 2), (None, 3, 3)])
def test_position_of_begin_suppress_tokens(forced: int | None, prompt_length: int, at: int) -> None:
    options = {"begin_suppress_tokens": [2], "forced_bos_token_id": forced, "prompt_length": prompt_length}
    suppressed = [n for n in range(2, 6) if np.isneginf(apply([[1] * 9] * 2, n, **options)).any()]
    assert (at in suppressed) if at > 1 else suppressed == []
    assert [n for n in suppressed if n != at] == []


def test_invalid_values_are_replaced() -> None:
    scores = np.array([[np.nan, np.inf, -np.inf, 1.0, -2.0]], dtype=np.float32)
    greatest = np.finfo(np.float32).max
    found = apply([[1, 0]], 1, scores, remove_invalid_values=True)
    assert found[0].tolist() == [0.0, greatest, -greatest, 1.0, -2.0]


def test_user_processors_run_last_with_the_arguments_of_transformers() -> None:
    received = []

    def processor(input_ids: Any, scores: Any) -> Any:
        received.append((input_ids.tolist(), scores.tolist()))
        return scores + 1

    chain = chain_of(user=[processor], suppress_tokens=[0])
    scores = SCORES
    for one in chain:
        scores = one(np.array([[1, 2, 0], [3, 4, 0]]), 2, scores)
    assert received[0][0] == [[1, 2], [3, 4]]
    assert received[0][1][0][0] == -np.inf
    assert scores[1, 1] == SCORES[1, 1] + 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("suppress_tokens", [2, 5]), ("begin_suppress_tokens", [77]), ("forced_bos_token_id", 5),
        ("forced_eos_token_id", [1, 9]), ("bad_words_ids", [[1, 8]]), ("sequence_bias", {(6, 1): 1.0}),
    ],
)  # fmt: skip
def test_ids_outside_the_vocabulary_are_refused(option: str, value: Any) -> None:
    with pytest.raises(GenerationError, match=f"`{option}` must hold token ids from 0 to 4"):
        chain_of(**{option: value})


def test_end_id_outside_the_vocabulary_is_refused() -> None:
    config = GenerationConfig(eos_token_id=50, max_new_tokens=2)
    with pytest.raises(GenerationError, match="`eos_token_id` must hold token ids from 0 to 4"):
        build_processors(OPS, config, plan_of(config, 1, None), SCORES)


def test_unbounded_length_decay_stays_finite() -> None:
    config = GenerationConfig(eos_token_id=4, max_new_tokens=1000, exponential_decay_length_penalty=(0, 50.0))
    (decay,) = build_processors(OPS, config, plan_of(config, 1, None), SCORES)
    found = decay(np.ones((2, 1001), dtype=np.int64), 900, SCORES)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, :4], SCORES[:, :4])
    assert found[1, 4] > 1e30
