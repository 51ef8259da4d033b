"""No switch and no rate of a configuration is ignored in silence: it changes the model, or is refused by its name."""

from dataclasses import fields
from typing import Any

import pytest

from dragoman import ConfigError
from dragoman.families import FAMILIES, Family
from dragoman.families.config import ModelConfig
from dragoman.testing import tiny_config

# Fields that change neither the network nor its training here, of all families or of one; and why.
INERT: dict[str | tuple[str, str], str] = {
    "final_dropout": "of a head that an encoder does not need",
    **{
        (family, "encoder_layerdrop"): "of a text encoder, which is not used"
        for family in ("bart", "blenderbot", "blenderbot-small", "m2m_100", "marian", "mbart", "pegasus")
    },
    ("biogpt", "layer_norm_eps"): "transformers reads it and uses 1e-5",
    ("data2vec-audio", "do_stable_layer_norm"): "transformers does not read it",
    ("hubert", "add_adapter"): "transformers does not read it",
    ("marian", "share_encoder_decoder_embeddings"): "of a text encoder, which is not used",
    ("mt5", "tie_word_embeddings"): "transformers says that every head is tied, and none is",
    ("phi3", "embd_pdrop"): "transformers does not read it",
    ("sew", "add_adapter"): "transformers does not read it",
    ("sew", "do_stable_layer_norm"): "transformers does not read it",
    ("sew-d", "add_adapter"): "transformers does not read it",
    ("sew-d", "do_stable_layer_norm"): "transformers does not read it",
    ("sew-d", "hidden_dropout"): "transformers drops states by `activation_dropout`",
    ("sew-d", "layerdrop"): "transformers does not read it",
    ("unispeech", "add_adapter"): "transformers does not read it",
    ("unispeech-sat", "add_adapter"): "transformers does not read it",
    ("wav2vec2-conformer", "do_stable_layer_norm"): "transformers does not read it",
    ("whisper", "mask_feature_prob"): "means nothing without `apply_spec_augment`",
    ("whisper", "mask_time_prob"): "means nothing without `apply_spec_augment`",
    ("whisper", "scale_embedding"): "transformers reads it and never applies it",
}
GENERAL = {field.name for field in fields(ModelConfig)}


def model(family: Family, config: Any) -> tuple[Any, ...]:
    """Return all that is built from a configuration."""
    speech = (config.speech_spec(), family.speech.rules(config)) if family.speech else ()
    return (*speech, config.text_spec(), family.text.rules(config)) if family.text else speech


def switches(family: Family) -> dict[str, Any]:
    """Return another value for each switch and each rate of the family."""
    plain = tiny_config(family.model_type)
    values = {field.name: getattr(plain, field.name) for field in fields(plain) if field.name not in GENERAL}
    switched = {name: not value for name, value in values.items() if isinstance(value, bool)}
    return switched | {name: (value + 0.125) % 1 for name, value in values.items() if isinstance(value, float)}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_every_switch_has_an_effect_or_is_refused(family: Family) -> None:
    plain = model(family, tiny_config(family.model_type))
    for name, value in switches(family).items():
        fault = ""
        try:
            changed = model(family, tiny_config(family.model_type, **{name: value}))
        except ConfigError as error:
            fault, changed = str(error), ()
        assert not fault or f"`{name}`" in fault
        inert = not INERT.keys().isdisjoint({name, (family.model_type, name)})
        assert (changed == plain) is inert, name
