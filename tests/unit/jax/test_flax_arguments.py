"""Arguments and methods of the Flax models of `transformers`: the type to compute in, conversions, initialisation."""

import copy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dragoman
from dragoman import ConfigError, FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig
from dragoman.jax.net.tree import flat
from dragoman.testing import tiny_config

AUDIO = np.random.default_rng(0).standard_normal((2, 1600)).astype(np.float32)
LABELS = np.array([[5, 6, 3], [7, 3, -100]])


def config() -> SpeechEncoderDecoderConfig:
    ids = {"decoder_start_token_id": 2, "pad_token_id": 1, "eos_token_id": 3}
    parts = {"encoder": tiny_config("wav2vec2", num_hidden_layers=1), "decoder": tiny_config("bert", vocab_size=30)}
    return SpeechEncoderDecoderConfig(**parts, **ids)


def types_of(tree: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flax") / "model"
    FlaxSpeechEncoderDecoderModel(config(), seed=4).save_pretrained(folder)
    return folder


def test_dtype_is_that_of_the_computation(folder: Path) -> None:
    """Parameters, gradients and the loss stay in float32, so that small updates of an optimizer are not lost."""
    plain = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
    half = FlaxSpeechEncoderDecoderModel.from_pretrained(folder, dtype=jnp.bfloat16)
    assert (plain.dtype, half.dtype) == (jnp.float32, jnp.bfloat16)
    assert types_of(half.params) == {"float32"}
    gradients = jax.eval_shape(jax.grad(lambda params: half(AUDIO, labels=LABELS, params=params).loss), half.params)
    output = half(AUDIO, labels=LABELS)
    assert (output.logits.dtype, output.loss.dtype, types_of(gradients)) == (jnp.bfloat16, jnp.float32, {"float32"})
    expected = plain(AUDIO, labels=LABELS)
    assert not np.array_equal(output.logits.astype(np.float32), expected.logits)
    assert abs(float(output.loss) - float(expected.loss)) < 0.05


def test_caches_and_searches_compute_in_it_too(folder: Path) -> None:
    half = FlaxSpeechEncoderDecoderModel.from_pretrained(folder, dtype="bfloat16")
    tokens = np.array([[2, 5, 6], [2, 7, 8]])
    whole = half(AUDIO, decoder_input_ids=tokens).logits
    encoded = half.encode(AUDIO)
    assert encoded.last_hidden_state.dtype == jnp.bfloat16
    cached = half.decode(tokens, encoded, past_key_values=half.init_cache(2, 4, encoded))
    assert cached.logits.dtype == whole.dtype == jnp.bfloat16
    assert np.allclose(cached.logits.astype(np.float32), whole.astype(np.float32), atol=0.05)
    assert half(AUDIO, decoder_input_ids=tokens, use_cache=True).logits.dtype == jnp.bfloat16
    assert half.generate(AUDIO, max_new_tokens=2).sequences.shape[0] == 2


def test_conversions_return_trees_and_change_no_model(folder: Path) -> None:
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
    assert types_of(model.to_bf16(model.params)) == {"bfloat16"}
    assert types_of(model.to_fp16(model.params)) == {"float16"}
    assert types_of(model.to_fp32(model.to_fp16(model.params))) == types_of(model.params) == {"float32"}
    mask = jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == "encoder", model.params)
    mixed = model.to_bf16(model.params, mask)
    assert (types_of(mixed["encoder"]), types_of(mixed["decoder"])) == ({"bfloat16"}, {"float32"})
    model.params = model.to_bf16(model.params)
    assert (types_of(model.params), model.dtype) == ({"bfloat16"}, jnp.bfloat16)
    stored = FlaxSpeechEncoderDecoderModel.from_pretrained(folder, torch_dtype="bfloat16")
    assert types_of(stored.params) == {"bfloat16"}


def test_arguments_of_flax_models_are_taken(folder: Path, tmp_path: Path) -> None:
    shapes = ((1, 1024), (1, 8))
    model = FlaxSpeechEncoderDecoderModel(config(), input_shape=shapes, seed=4, dtype=jnp.float32, _do_init=True)
    loaded = FlaxSpeechEncoderDecoderModel.from_pretrained(folder, jnp.float32, input_shape=shapes, seed=0)
    for mine, yours in zip(jax.tree.leaves(model.params), jax.tree.leaves(loaded.params), strict=True):
        assert np.array_equal(mine, yours)
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    for make in (
        lambda: FlaxSpeechEncoderDecoderModel(config(), _do_init=False),
        lambda: FlaxSpeechEncoderDecoderModel.from_pretrained(folder, _do_init=False),
    ):
        with pytest.raises(ConfigError, match="`_do_init` must be `True`"):
            make()


def test_parts_have_the_names_of_flax_models(tmp_path: Path) -> None:
    encoder = dragoman.FlaxWav2Vec2Model(tiny_config("wav2vec2", num_hidden_layers=1), ((1, 1024),), 3)
    decoder = dragoman.FlaxBartForCausalLM(tiny_config("bart", vocab_size=30, decoder_layers=1), seed=5)
    encoder.save_pretrained(tmp_path / "speech")
    decoder.save_pretrained(tmp_path / "text", params=jax.tree.map(lambda x: 2 * x, decoder.params))
    again = dragoman.FlaxWav2Vec2Model.from_pretrained(tmp_path / "speech", dtype=jnp.float32, from_pt=True)
    assert type(again) is dragoman.FlaxWav2Vec2Model
    assert np.array_equal(again(AUDIO).last_hidden_state, encoder(AUDIO).last_hidden_state)
    model = FlaxSpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder_model=again, decoder_model=decoder)
    assert model.encoder is again
    decoder.params = jax.tree.map(lambda x: 2 * x, decoder.params)
    other = dragoman.FlaxBartForCausalLM.from_pretrained(tmp_path / "text")
    for mine, yours in zip(jax.tree.leaves(other.params), jax.tree.leaves(decoder.params), strict=True):
        assert np.array_equal(mine, yours)
    model.save_pretrained(tmp_path / "joined")
    auto = dragoman.FlaxAutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "joined", dtype=jnp.bfloat16)
    assert (type(auto), auto.dtype) == (FlaxSpeechEncoderDecoderModel, jnp.bfloat16)
    with pytest.raises(ConfigError, match="FlaxBertForCausalLM takes a BertConfig, but got a BartConfig"):
        dragoman.FlaxBertForCausalLM(decoder.config)
    with pytest.raises(ConfigError, match="A part alone computes in the type of its parameters"):
        dragoman.FlaxWav2Vec2Model.from_pretrained(tmp_path / "speech", dtype=jnp.bfloat16)


def test_seed_of_a_warm_start(tmp_path: Path) -> None:
    """It draws what no checkpoint holds: cross-attention and bridge; the rest is loaded."""
    built = FlaxSpeechEncoderDecoderModel(config(), seed=4)
    dragoman.SpeechEncoder(config().encoder).save_pretrained(tmp_path / "speech")
    dragoman.TextDecoder(tiny_config("gpt2", vocab_size=30)).save_pretrained(tmp_path / "text")

    def start(seed: int | None) -> dict[str, np.ndarray]:
        given = {} if seed is None else {"seed": seed}
        model = FlaxSpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
            tmp_path / "speech", tmp_path / "text", **given
        )
        fresh.update(model.load_report.fresh)
        return {name: np.asarray(leaf) for name, leaf in flat(model.tree).items()}

    fresh = set[str]()
    one, same, other, default = start(1), start(1), start(2), start(None)
    drawn = {name for name in one if name in fresh and one[name].std()}  # not norms and biases
    assert any("cross_attn" in name for name in drawn)
    assert any("bridge" in name for name in drawn)
    for name, tensor in one.items():
        assert np.array_equal(tensor, same[name])
        assert np.array_equal(tensor, other[name]) is (name not in drawn)
        assert np.array_equal(tensor, default[name]) is (name not in drawn)
    assert built.load_report.fresh == []


def test_replaced_modules_and_variables_are_in_force() -> None:
    """The programs are compiled anew, also where they have run before; what is trained, too."""
    model, other = FlaxSpeechEncoderDecoderModel(config()), FlaxSpeechEncoderDecoderModel(config(), seed=9)

    def logits(of: Any) -> Any:
        return np.asarray(of(np.ones((1, 800)), decoder_input_ids=np.array([[3, 5]])).logits)

    before, wanted = logits(model), logits(other)
    changes = [
        lambda: setattr(model.encoder, "stack", other.encoder.stack),
        lambda: model.decoder.stack.layers.__setitem__(0, other.decoder.stack.layers[0]),
        lambda: setattr(model.decoder.stack.layers[1], "ffn", other.decoder.stack.layers[1].ffn),
        lambda: setattr(model.decoder.embed.tokens, "weight", nnx.Param(other.decoder.embed.tokens.weight[...])),
    ]
    for change in changes:
        change()
        after = logits(model)
        assert not np.allclose(after, before)
        assert not np.allclose(after, wanted)
        before = after
    model.params = other.params
    assert np.allclose(logits(model), wanted)
    weight = model.decoder.embed.tokens.weight
    assert np.array_equal(model.tree["decoder"]["embed"]["tokens"]["weight"], weight[...])


def test_parts_of_a_model_are_fixed_in_jax() -> None:
    """The model was built for their sizes: an error, and other ways."""
    model, other = FlaxSpeechEncoderDecoderModel(config()), FlaxSpeechEncoderDecoderModel(config(), seed=9)
    for name in ("encoder", "decoder", "bridge", "enc_to_dec_proj"):
        with pytest.raises(dragoman.ConfigError, match=f"`{name}` cannot be replaced in JAX.*assign other weights"):
            setattr(model, name, getattr(other, name, None))
    copied = copy.deepcopy(model)
    assert copied.decoder is not model.decoder
    joined = FlaxSpeechEncoderDecoderModel(encoder=other.encoder, decoder=model.decoder)
    assert joined.encoder is other.encoder
