"""The prompt of a call of `generate` and the tokens forced after it."""

import numpy as np
import pytest

from dragoman.errors import GenerationError
from dragoman.generation.arrays import ops_of
from dragoman.generation.chain import build_processors
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of
from dragoman.generation.settings import prompt_of


@pytest.mark.parametrize(
    ("forced", "prompt", "later"),
    [
        (None, [3], []),
        ([[1, 7], [2, 8]], [3, 7, 8], []),
        ([[1, None], [2, 8], [4, 9]], [3], [(2, 8), (4, 9)]),
        ([[1, 7], [3, 9]], [3, 7], [(3, 9)]),
        ([[1, 7], [1, None]], [3], []),
    ],
)
def test_forced_decoder_ids_are_split_into_prompt_and_later_tokens(
    forced: list[list[int | None]] | None, prompt: list[int], later: list[tuple[int, int]]
) -> None:
    options = GenerationConfig(decoder_start_token_id=3, forced_decoder_ids=forced)
    tokens, found = prompt_of(options, 2, None, 20)
    assert tokens.tolist() == [prompt] * 2
    assert found == later


def test_given_prompts_replace_forced_decoder_ids() -> None:
    options = GenerationConfig(decoder_start_token_id=3, forced_decoder_ids=[[1, None], [2, 8]])
    tokens, forced = prompt_of(options, 1, np.array([[9]]), 20)
    assert (tokens.tolist(), forced) == ([[3, 9]], [])


def test_decay_needs_an_end_token_when_the_search_begins() -> None:
    scores = np.zeros((2, 6), np.float32)
    options = GenerationConfig(max_new_tokens=5, exponential_decay_length_penalty=(1, 1.1))
    with pytest.raises(GenerationError, match="`eos_token_id` is not set"):
        build_processors(ops_of(scores), options, plan_of(options, 1, None), scores)


def test_later_tokens_are_forced_at_their_position() -> None:
    scores = np.zeros((2, 6), np.float32)
    options = GenerationConfig(max_new_tokens=5)
    (force,) = build_processors(ops_of(scores), options, plan_of(options, 1, None, [(2, 4)]), scores)
    tokens = np.zeros((2, 6), np.int64)
    assert np.isfinite(force(tokens, 2, scores)).nonzero()[1].tolist() == [4, 4]
    np.testing.assert_array_equal(force(tokens, 3, scores), scores)
