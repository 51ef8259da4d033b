import pytest

from dragoman.errors import GenerationError
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of


def test_maximum_length_defaults_to_the_capacity() -> None:
    assert plan_of(GenerationConfig(), 3, 448).max_length == 448


def test_max_new_tokens_takes_precedence_over_max_length() -> None:
    assert plan_of(GenerationConfig(max_length=50, max_new_tokens=7), 3, 448).max_length == 10
    assert plan_of(GenerationConfig(max_length=50), 3, 448).max_length == 50
    assert plan_of(GenerationConfig(min_length=5, min_new_tokens=4), 3, 448).min_length == 7


def test_length_beyond_the_capacity_is_reduced_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="503 tokens were asked for .* can take only 448"):
        assert plan_of(GenerationConfig(max_new_tokens=500), 3, 448).max_length == 448


def test_unlimited_length_is_refused() -> None:
    with pytest.raises(GenerationError, match="Set `max_new_tokens`"):
        plan_of(GenerationConfig(), 1, None)


@pytest.mark.parametrize(("options", "capacity"), [({"max_length": 3}, None), ({}, 3), ({"max_length": 2}, 448)])
def test_prompt_that_fills_the_length_is_refused(options: dict[str, int], capacity: int | None) -> None:
    with pytest.raises(GenerationError, match="The prompt has 3 tokens, which leaves no room"):
        plan_of(GenerationConfig(**options), 3, capacity)


def test_minimum_above_maximum_length_warns() -> None:
    with pytest.warns(UserWarning, match="no sequence will end by itself"):
        plan_of(GenerationConfig(max_new_tokens=3, min_new_tokens=5), 1, 9)


@pytest.mark.parametrize(
    ("pad", "eos", "padding", "beam_fill"),
    [(1, 2, 1, 1), (0, 2, 0, 2), (None, [5, 6], 5, 5), (3, None, 3, -1), (None, None, 0, -1)],
)
def test_padding_after_the_end(pad: object, eos: object, padding: int, beam_fill: int) -> None:
    plan = plan_of(GenerationConfig(pad_token_id=pad, eos_token_id=eos, max_new_tokens=1), 1, None)
    assert (plan.pad, plan.beam_fill) == (padding, beam_fill)
