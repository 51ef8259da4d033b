"""A tiny model in JAX."""

import pytest

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import tiny_config


def build(
    encoder: dict[str, object] | None = None,
    decoder: dict[str, object] | None = None,
    seed: int = 0,
    family: str = "wav2vec2",
) -> FlaxSpeechEncoderDecoderModel:
    """Return a tiny encoder of a family joined to BERT, one layer each, which compiles fast."""
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(family, num_hidden_layers=1, **(encoder or {})),
        decoder=tiny_config("bert", num_hidden_layers=1, **(decoder or {})),
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    return FlaxSpeechEncoderDecoderModel(config=config, seed=seed)


@pytest.fixture(scope="session")
def model() -> FlaxSpeechEncoderDecoderModel:
    """A tiny model that tests must not change."""
    return build()
