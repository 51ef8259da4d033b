"""Layers: precision, padding, matrix products."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jaxtyping import Array

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderModel
from dragoman.jax.net.layers import linear

from ..conftest import build

LONG, SHORT = 1600, 900


def clips() -> tuple[np.ndarray, np.ndarray]:
    """Two clips, the second one padded with noise."""
    waves = np.random.default_rng(0).standard_normal((2, LONG)).astype(np.float32)
    return waves, np.arange(LONG) < np.asarray([[LONG], [SHORT]])


def test_float64_is_used_throughout(tmp_path: Path) -> None:
    """In float64 the backends differ only by rounding of float64: nothing is computed in float32."""
    build().save_pretrained(tmp_path)
    waves, mask = clips()
    theirs = SpeechEncoderDecoderModel.from_pretrained(tmp_path, dtype="float64")
    with torch.inference_mode():
        wanted = theirs(
            torch.from_numpy(waves).double(), torch.from_numpy(mask).long(), torch.tensor([[0, 5], [0, 6]])
        ).logits.numpy()
    with jax.enable_x64(True):
        ours = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path, dtype="float64")
        found = ours(waves.astype(np.float64), mask.astype(int), np.asarray([[0, 5], [0, 6]])).logits
    assert found.dtype == np.float64
    assert np.abs(np.asarray(found) - wanted).max() < 1e-12


@pytest.mark.parametrize(
    "fields",
    [{}, {"conv_pos_batch_norm": True}, {"feat_extract_norm": "layer", "do_stable_layer_norm": True}],
    ids=["group", "batch-norm-positions", "layer"],
)
def test_padding_has_no_effect(fields: dict[str, Any]) -> None:
    """Whatever its values, also with stored statistics of batch norm."""
    model = build(fields, family="hubert")
    if "conv_pos_batch_norm" in fields:
        norm, random = model.encoder.positions.batch_norm, np.random.default_rng(1)
        norm.bias[...] = jax.numpy.asarray(random.standard_normal(norm.bias.shape), np.float32)
        norm.running_mean[...] = jax.numpy.asarray(random.standard_normal(norm.bias.shape), np.float32)
    waves, mask = clips()
    together = model.encode(waves, mask)
    alone = model.encode(waves[1:, :SHORT])
    frames = alone.last_hidden_state.shape[1]
    assert int(together.lengths[1]) == frames
    assert np.abs(together.last_hidden_state[1, :frames] - alone.last_hidden_state[0]).max() < 1e-5


@pytest.mark.parametrize("rows", [(1,), (2,), (5,), (3, 3), (10, 1), (2, 9), (41,), (0,)])
def test_product_of_few_rows_equals_the_full_product(rows: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    x, weight, bias = (jnp.asarray(random.standard_normal(shape)) for shape in ((*rows, 24), (7, 24), (7,)))

    def squared(x: Array, weight: Array, bias: Array) -> Array:
        return jnp.square(linear(x, weight, bias)).sum()

    for compiled in (False, True):
        product = jax.jit(linear) if compiled else linear
        assert np.allclose(product(x, weight, bias), np.asarray(x) @ np.asarray(weight).T + np.asarray(bias), atol=1e-5)
    found = jax.grad(squared, (0, 1, 2))(x, weight, bias)
    wanted = jax.grad(lambda x, w, b: jnp.square(x @ w.T + b).sum(), (0, 1, 2))(x, weight, bias)
    assert all(map(partial(np.allclose, atol=1e-4), found, wanted))
    both = jax.vmap(linear, (0, None, None))(jnp.stack([x, 2 * x]), weight, bias)
    assert np.allclose(both[1], linear(2 * x, weight, bias), atol=1e-5)
    assert linear(x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)).dtype == jnp.bfloat16
