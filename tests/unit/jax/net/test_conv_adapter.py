"""The attention adapter in training: every dropout rate has an effect with a key, and none without."""

from dataclasses import replace

import jax
import numpy as np

from dragoman.jax.parts import SpeechEncoder
from dragoman.testing import tiny_config

FEATURES = np.random.default_rng(0).standard_normal((2, 24, 8)).astype(np.float32)
QUIET = {"layerdrop": 0.0, "hidden_dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}


def states(key: jax.Array | None, **rates: float) -> np.ndarray:
    fields = {"add_adapter": True, "use_intermediate_ffn_before_adapter": True, "conformer_conv_dropout": 0.0}
    encoder = SpeechEncoder(tiny_config("wav2vec2-bert", **fields | QUIET, feat_proj_dropout=0.0))
    adapter = encoder.adapter
    assert adapter is not None
    for layer in adapter.layers:  # dropout in the adapter only
        layer.spec = replace(layer.spec, dropout=rates.get("mixed", 0.0))
        layer.block = replace(layer.block, dropout=rates.get("last", 0.0))
        layer.ffn.dropout = rates.get("inner", 0.0)
        layer.self_attn.dropout = rates.get("look", 0.0)
    adapter.first_ffn.dropout = rates.get("first", 0.0)
    return np.asarray(encoder.encode(FEATURES, key=key).last_hidden_state)


def test_dropout_follows_the_key_and_is_off_without_one() -> None:
    one, two = jax.random.split(jax.random.key(0))
    still = states(None)
    assert np.allclose(states(one), still, atol=1e-6)
    for where in ("mixed", "last", "inner", "look", "first"):
        assert np.array_equal(states(None, **{where: 0.5}), still)
        assert not np.allclose(states(one, **{where: 0.5}), states(two, **{where: 0.5})), where
