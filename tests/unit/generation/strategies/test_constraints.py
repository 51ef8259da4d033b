from itertools import product
from typing import Any

import numpy as np
import pytest

from dragoman.errors import GenerationError
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig
from dragoman.generation.strategies.constraints import Progress, words_of


def read(force_words_ids: list[Any], tokens: list[int]) -> Progress:
    words = words_of(force_words_ids)
    progress = words.start()
    for token in tokens:
        progress = words.read(progress, token)
    return progress


@pytest.mark.parametrize(
    ("words", "tokens", "complete"),
    [
        ([[1]], [5, 1, 6], True),
        ([[1]], [5, 6], False),
        ([[1, 2]], [1, 2], True),
        ([[1, 2]], [1, 5, 2], False),
        ([[1, 2]], [1, 5, 1, 2], True),
        ([[1, 2], [3]], [3, 1, 2], True),
        ([[1, 2], [3]], [1, 3, 2], False),
        ([[1, 2], [1, 3]], [1, 2, 1, 3], True),
        ([[1], [1]], [1], False),
        ([[1], [1]], [1, 1], True),
        ([[[1, 2], [3]]], [3], True),
        ([[[1, 2], [3]], [3]], [3], False),
        ([[[1, 2], [1, 4]]], [1, 4], True),
    ],
)
def test_progress_is_complete_when_every_word_occurs(words: list[Any], tokens: list[int], complete: bool) -> None:
    assert read(words, tokens).complete == complete


def test_advancing_tokens_begin_or_continue_words() -> None:
    words = words_of([[1, 2], [3], [[1, 4], [5]]])
    assert words.advancing(words.start()) == [1, 3, 5]
    assert words.advancing(words.read(words.start(), 1)) == [2]
    assert words.advancing(words.read(words.start(), 3)) == [1, 5]
    assert words.advancing(read([[1]], [1])) == []
    assert words.tokens == [1, 2, 3, 4, 5]


def test_advancing_tokens_raise_the_rank() -> None:
    words = words_of([[1, 2, 3], [4], [[5, 6], [7]]])
    for tokens in product(range(1, 9), repeat=3):
        progress = words.start()
        for token in tokens:
            progress = words.read(progress, token)
        for token in words.advancing(progress):
            assert words.rank(words.read(progress, token)) > words.rank(progress)


class Constant:
    """Decoder that always returns the same logits."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def start(self, prompt: np.ndarray) -> Step[int]:
        return Step(np.repeat(self.logits[None], len(prompt), axis=0), len(prompt))

    def expand(self, state: int, copies: int) -> int:
        return state * copies

    def step(self, tokens: np.ndarray, state: int) -> Step[int]:
        return Step(np.repeat(self.logits[None], state, axis=0), state)

    def select(self, state: int, rows: np.ndarray) -> int:
        return state


def generated(words: list[Any], **options: Any) -> list[list[int]]:
    config = GenerationConfig(
        eos_token_id=0, pad_token_id=1, force_words_ids=words, **{"num_beams": 4, "max_new_tokens": 8, **options}
    )
    logits = np.array([2.0, -5, -5, 3, -1, -2, -3, -4], dtype=np.float32)
    found = generate(Constant(logits), np.array([[2]]), config)
    return [[t for t in row[1:] if t > 1] for row in found.sequences.tolist()]


def test_unlikely_words_are_generated() -> None:
    found = generated([[7], [6, 5]], num_return_sequences=4)
    complete = [7 in tokens and "65" in "".join(map(str, tokens)) for tokens in found]
    assert complete[0]
    assert complete == sorted(complete, reverse=True)  # those without all words come last


def test_best_sequence_is_returned_if_the_words_do_not_fit() -> None:
    assert len(generated([[4, 5, 6, 7]], max_new_tokens=2)) == 1


def test_word_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(GenerationError, match="from 0 to 7, the decoder's vocabulary, but holds 8"):
        generated([[8]])


def test_stop_strings_are_refused() -> None:
    config = GenerationConfig(num_beams=2, force_words_ids=[[3]], stop_strings="x", max_new_tokens=3)
    with pytest.raises(GenerationError, match="cannot be combined with `stop_strings`"):
        generate(Constant(np.zeros(8, dtype=np.float32)), np.array([[2]]), config, decode=str)
