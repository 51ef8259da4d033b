"""Tiny configurations: one per family, complete, and checked like any other."""

import pytest

from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, Family
from dragoman.testing import tiny_config


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_every_family_has_a_tiny_configuration(family: Family) -> None:
    config = tiny_config(family.model_type)
    assert type(config) is family.config
    if family.speech is not None:
        assert config.speech_spec().width <= 32
    if family.text is not None:
        assert config.text_spec().vocab_size <= 100


def test_given_fields_take_precedence() -> None:
    assert tiny_config("bert", hidden_size=8).hidden_size == 8
    assert tiny_config("bert").hidden_size == 24  # calls do not affect each other


def test_errors_name_the_field() -> None:
    with pytest.warns(UserWarning, match="hiden_size"):
        tiny_config("bert", hiden_size=8)
    with pytest.raises(ConfigError, match="`hidden_size` must be a whole number"):
        tiny_config("bert", hidden_size="8")
    with pytest.raises(ConfigError, match='Did you mean "wav2vec2"'):
        tiny_config("wav2vec")
