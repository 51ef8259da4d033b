"""Masks over parameters: weight decay, and mask functions of Flax scripts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig
from dragoman.errors import ConfigError
from dragoman.jax.masks import decay_mask, flax_mask, flax_paths
from dragoman.jax.net.tree import flat
from dragoman.testing import tiny_config


@pytest.fixture(params=["bert", "gpt2"])
def model(request: Any) -> FlaxSpeechEncoderDecoderModel:
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config(request.param))
    return FlaxSpeechEncoderDecoderModel(config=config)


def of_a_script(params: Any) -> Any:
    """Leave biases and the scales of layer norms out, as training scripts for Flax do."""
    leaves = flatten_dict(params)
    norms = {path[-2:] for path in leaves if any(word in "".join(path).lower() for word in ("norm", "ln_"))}
    norms = {ends for ends in norms if ends[-1] == "scale"}
    return unflatten_dict({path: path[-1] != "bias" and path[-2:] not in norms for path in leaves})


def test_no_decay_of_biases_and_norms(model: FlaxSpeechEncoderDecoderModel) -> None:
    mask = flat(decay_mask(model.params))
    assert mask.keys() == flat(model.params).keys()
    for name, decays in mask.items():
        assert decays != (name.endswith("bias") or "norm" in name.split(".")[-2]), name
    assert mask["decoder.embed.tokens.weight"]
    assert mask["encoder.positions.conv.weight_v"]


def test_a_mask_function_of_a_flax_script_gives_the_same_mask(model: FlaxSpeechEncoderDecoderModel) -> None:
    assert flat(flax_mask(model, of_a_script)) == flat(decay_mask(model.params))
    with pytest.raises(ConfigError, match="left out"):
        flax_mask(model, lambda params: {})


def test_only_what_decays_shrinks(model: FlaxSpeechEncoderDecoderModel) -> None:
    optimizer = optax.adamw(1.0, weight_decay=0.5, mask=decay_mask)
    params = jax.tree.map(jnp.ones_like, model.params)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    for name, update in flat(updates).items():
        assert np.allclose(update, -0.5 if flat(decay_mask(params))[name] else 0.0), name


def test_paths_are_those_of_flax_models() -> None:
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bart"))
    paths = set(flax_paths(FlaxSpeechEncoderDecoderModel(config=config)).values())
    assert ("encoder", "feature_extractor", "conv_layers", "0", "conv", "kernel") in paths
    assert ("encoder", "encoder", "layers", "1", "final_layer_norm", "scale") in paths
    assert ("encoder", "encoder", "pos_conv_embed", "conv", "weight_g") in paths
    assert ("decoder", "model", "decoder", "embed_tokens", "embedding") in paths
    assert ("decoder", "model", "decoder", "layers", "0", "fc1", "kernel") in paths
    assert ("enc_to_dec_proj", "kernel") in paths
