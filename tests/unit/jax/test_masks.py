"""Parameters under the paths of Flax models: masks, layouts, surgery and files."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from flax import serialization
from flax.core import freeze
from flax.traverse_util import flatten_dict, unflatten_dict

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig
from dragoman.errors import CheckpointError, ConfigError
from dragoman.jax.flax_names import part_classes
from dragoman.jax.masks import decay_mask
from dragoman.jax.net.tree import flat
from dragoman.jax.sharding import param_shardings
from dragoman.jax.train import Trainer, trained
from dragoman.testing import tiny_config

AUDIO, LABELS = np.sin(np.arange(1600, dtype=np.float32)).reshape(2, 800), np.array([[5, 6], [7, 8]])


def build(decoder: str, **encoder: Any) -> FlaxSpeechEncoderDecoderModel:
    quiet = {"layerdrop": 0.0, "num_hidden_layers": 1, **encoder}
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2", **quiet), decoder=tiny_config(decoder))
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 3, 1, 2
    return FlaxSpeechEncoderDecoderModel(config=config)


@pytest.fixture(scope="module", params=["bert", "gpt2", "bart"])
def model(request: Any) -> FlaxSpeechEncoderDecoderModel:
    return build(request.param)


def of_a_script(params: Any) -> Any:
    """Leave biases and the scales of layer norms out, as training scripts for Flax do."""
    leaves = flatten_dict(params)
    norms = {path[-2:] for path in leaves if any(word in "".join(path).lower() for word in ("norm", "ln_"))}
    norms = {ends for ends in norms if ends[-1] == "scale"}
    return unflatten_dict({path: path[-1] != "bias" and path[-2:] not in norms for path in leaves})


def test_no_decay_of_biases_and_norms(model: FlaxSpeechEncoderDecoderModel) -> None:
    mask = flat(decay_mask(model.tree))
    assert mask.keys() == flat(model.tree).keys()
    for name, decays in mask.items():
        assert decays != (name.endswith("bias") or "norm" in name.split(".")[-2]), name
    assert mask["decoder.embed.tokens.weight"]
    assert mask["encoder.positions.conv.weight_v"]
    assert decay_mask(model.params) == of_a_script(model.params)


def test_only_what_decays_shrinks(model: FlaxSpeechEncoderDecoderModel) -> None:
    optimizer = optax.sgd(1.0)
    optimizer = optax.chain(optax.add_decayed_weights(0.5, mask=of_a_script), optimizer)
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), model.params)
    updates, _ = optimizer.update(jax.tree.map(np.zeros_like, params), optimizer.init(params), params)
    for name, update in flat(updates).items():
        assert np.allclose(update, -0.5 if flat(decay_mask(params))[name] else 0.0), name


def test_a_whole_tree_comes_back_and_computes_the_same(model: FlaxSpeechEncoderDecoderModel) -> None:
    before = flat(model.tree)
    model.params = freeze(jax.tree.map(lambda leaf: leaf + 1, model.params))
    after = flat(model.tree)
    assert before.keys() == after.keys()
    assert all(np.array_equal(after[name], leaf + 1) for name, leaf in before.items())
    model.params = {"decoder": jax.tree.map(lambda leaf: leaf - 1, model.params["decoder"])}  # a part of it
    assert np.array_equal(model.decoder.embed.tokens.weight[...], before["decoder.embed.tokens.weight"] + 1 - 1)


def test_a_call_takes_the_form_of_flax() -> None:
    model = build("gpt2")
    found = [model.encode(AUDIO, params=params).last_hidden_state for params in (freeze(model.params), None)]
    assert np.allclose(*found, atol=1e-6)

    def loss_of(params: Any) -> Any:
        return model(AUDIO, labels=LABELS, params=params).loss

    params = freeze(model.params)
    assert jax.tree.structure(jax.eval_shape(jax.grad(loss_of), params)) == jax.tree.structure(params)


def test_paths_and_surgery_of_scripts() -> None:
    model = build("bart", tie_word_embeddings=False)
    paths = flatten_dict(model.params)
    assert paths["encoder", "feature_extractor", "conv_layers", "1", "conv", "kernel"].shape == (3, 16, 16)
    assert ("encoder", "encoder", "layers", "0", "final_layer_norm", "scale") in paths
    assert ("encoder", "encoder", "pos_conv_embed", "conv", "weight_g") in paths
    assert ("decoder", "model", "decoder", "embed_tokens", "embedding") in paths
    assert paths["enc_to_dec_proj", "kernel"].shape == (32, 24)
    params = model.params
    params["decoder"]["model"]["decoder"]["layers"]["0"]["fc1"]["kernel"] *= 0
    model.params = params
    assert not np.any(model.decoder.stack.layers[0].ffn.in_proj.weight[...])
    with pytest.raises(CheckpointError, match=r"no tensor .decoder\.lm_heads\.kernel"):
        model.params = {"decoder": {"lm_heads": {"kernel": jnp.zeros((24, 99))}}}


def test_layers_are_frozen_by_path_in_a_trainer() -> None:
    """`optax.multi_transform` by the words of a path, with the fused projections of GPT-2."""
    model = build("gpt2")

    def labels(params: Any) -> Any:
        kinds = {path: "frozen" if {"feature_extractor", "attn"} & {*path} else "on" for path in flatten_dict(params)}
        return unflatten_dict(kinds)

    optimizer = optax.multi_transform({"on": optax.adam(0.1), "frozen": optax.set_to_zero()}, labels)
    trainer = Trainer(model, optimizer, freeze_encoder=True)
    state, batch = trainer.begin(), trainer.batch([{"input_values": AUDIO, "labels": LABELS}])
    moments = {str(path) for path, leaf in jax.tree.leaves_with_path(state.optimizer) if leaf.ndim}
    for path in flatten_dict(model.params):
        key = "".join(f"DictKey(key={word!r}), " for word in path)[:-2]
        frozen = path[0] == "encoder" or "attn" in path
        assert any(key in moment for moment in moments) is not frozen, path
    after, _ = jax.eval_shape(trainer._step, state, batch, 0)
    assert jax.tree.structure(after.params) == jax.tree.structure(model.params)
    for function in trained, lambda params: param_shardings(params, None):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"takes parameters under dragoman's names: `model.tree`"):
            function(state.params)


def test_parts_and_files_have_the_same_form(model: FlaxSpeechEncoderDecoderModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, params=jax.tree.map(np.asarray, model.params))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.to_bytes(model.params))
    again = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again.load_report.fresh == []
    assert all(np.array_equal(leaf, flat(again.tree)[name]) for name, leaf in flat(model.tree).items())
    part: Any = part_classes()["FlaxWav2Vec2Model"](model.config.encoder)
    part.params = model.params["encoder"]
    assert np.array_equal(part.params["feature_projection"]["projection"]["kernel"].T, part.frontend.proj.weight[...])
