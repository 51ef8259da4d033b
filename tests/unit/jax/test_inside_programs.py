"""`generate` and `model.params = …` inside the caller's own `jit` and `pmap`, and what `generate` returns."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dragoman import FlaxSpeechEncoderDecoderModel, GenerationError, SpeechEncoderDecoderConfig
from dragoman.testing import tiny_config

PAD, LENGTH = 1, 9
MASK = (np.arange(1600) < np.array([[1600], [900]])).astype(np.int32)


@pytest.fixture(scope="module")
def model() -> FlaxSpeechEncoderDecoderModel:
    encoder = tiny_config("wav2vec2", feat_extract_norm="layer", do_stable_layer_norm=True, num_hidden_layers=1)
    decoder = tiny_config("bart", vocab_size=30, decoder_layers=1)
    ids = {"decoder_start_token_id": 2, "pad_token_id": PAD, "eos_token_id": 3}
    model = FlaxSpeechEncoderDecoderModel(SpeechEncoderDecoderConfig(encoder=encoder, decoder=decoder, **ids))
    random = np.random.default_rng(0)
    model.params = jax.tree.map(lambda x: x + 0.3 * random.standard_normal(x.shape).astype(x.dtype), model.params)
    return model


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    waves = np.random.default_rng(1).standard_normal((2, 1600)).astype(np.float32)
    return {"input_values": waves * np.array([[1], [3]], np.float32), "attention_mask": MASK}


def filled(ids: Any) -> np.ndarray:
    """Return ids padded to the length that a program of fixed shapes returns."""
    return np.pad(np.asarray(ids), ((0, 0), (0, LENGTH - ids.shape[1])), constant_values=PAD)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"penalty_alpha": 0.6, "top_k": 3}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_generate_inside_pmap_equals_generate_outside(model: Any, batch: Any, options: dict[str, Any]) -> None:
    """As the training scripts for Flax evaluate: the parameters of the state are assigned there."""
    before = jax.tree.leaves(model.tree)
    other = jax.tree.map(lambda x: 1.1 * x, model.params)
    options = {"max_length": LENGTH, "sequence_bias": {(3,): 1.5}} | options

    def key_of(key: Any) -> dict[str, Any]:
        return {"prng_key": key} if "do_sample" in options else {}

    def generate_step(params: Any, batch: Any, key: Any) -> Any:
        model.params = params
        return model.generate(**batch, **options, **key_of(key)).sequences

    devices = jax.tree.map(lambda x: x[None], (batch, jax.random.key(3)))
    found = jax.pmap(generate_step, "batch", in_axes=(None, 0, 0))(other, *devices)[0]
    assert all(mine is yours for mine, yours in zip(jax.tree.leaves(model.tree), before, strict=True))
    outside = model.generate(**batch, **options, **key_of(jax.random.key(3)), params=other)
    assert np.array_equal(found, filled(outside))


def test_outputs_are_returned_from_programs(model: Any, batch: Any) -> None:
    options = {"max_length": LENGTH, "num_beams": 2}
    for more in ({}, {"return_dict_in_generate": True}):
        found = jax.eval_shape(lambda given, more=more: model.generate(**given, **options, **more), batch)
        assert found.sequences.shape == (2, LENGTH)
    assert jax.eval_shape(lambda given: model.generate(**given, **options), batch).scores.shape == (2,)


def test_assigned_parameters_are_those_that_gradients_are_taken_of(model: Any, batch: Any) -> None:
    def loss_of(params: Any) -> Any:
        model.params = params
        return model(**batch, labels=np.full((2, 3), 5)).loss

    gradients = jax.jit(jax.grad(loss_of))(model.params)
    assert sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(gradients)) > 0
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(model.params))


def test_options_that_need_values_are_refused_inside_programs(model: Any, batch: Any) -> None:
    for options, match in [
        ({"do_sample": True}, "Pass `prng_key`"),
        ({"return_dict_in_generate": True, "output_scores": True}, "no value can be read"),
        ({"stopping_criteria": [lambda tokens, scores: False]}, "no value can be read"),
    ]:
        with pytest.raises(GenerationError, match=match):
            jax.jit(lambda given, options=options: model.generate(**given, max_length=3, **options).sequences)(batch)


def test_output_of_generate_is_an_output_and_an_array(model: Any, batch: Any) -> None:
    greedy, beams = (model.generate(**batch, max_length=6, num_beams=n) for n in (1, 2))
    assert (*greedy.keys(), *beams.keys()) == ("sequences", "sequences", "scores")
    for output in (greedy, beams, copy.deepcopy(beams)):
        ids = np.asarray(output.sequences)
        for same in (output["sequences"], output[0], output, list(output), output.tolist(), jnp.asarray(output)):
            assert np.array_equal(np.asarray(same), ids)
        assert (output.shape, len(output), output.dtype) == (ids.shape, 2, jnp.int32)
        assert np.array_equal(output[:, 1:], ids[:, 1:])
        assert output[1, 0] == 2
        assert np.array_equal(output == 2, ids == 2)
        assert np.array_equal(output != output, ids != ids)
        assert np.array_equal(output + 1, ids + 1)
        assert np.array_equal(output[output == 2], ids[ids == 2])
        assert np.array_equal(jnp.where(output == PAD, 0, output.sequences), np.where(ids == PAD, 0, ids))
    assert beams.scores.shape == beams["scores"].shape == beams[1].shape == (2,)
    assert set(dict(beams)) == {"sequences", "scores"}
    with pytest.raises(AttributeError, match="nonsense"):
        _ = greedy.nonsense
