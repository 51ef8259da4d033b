"""Inputs of a model in JAX: what is accepted, and errors for everything else instead of wrong numbers.

An index outside a table silently gives NaN in JAX.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dragoman.errors import AudioError, CheckpointError, ConfigError, DragomanError
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

AUDIO = np.random.default_rng(0).standard_normal((2, 400)).astype(np.float32)
TOKENS = np.array([[5, 6, 2], [7, 2, 0]])
BEYOND = np.where(TOKENS == 7, 106, TOKENS)

MISTAKES: dict[str, tuple[dict[str, Any], type[DragomanError], str]] = {
    "a list": ({"inputs": AUDIO.tolist()}, AudioError, "`input_values` must be an array, but is a list"),
    "whole numbers": ({"inputs": AUDIO.astype(np.int16)}, AudioError, "floating-point numbers, but are int16"),
    "no clips": ({"inputs": AUDIO[:0]}, AudioError, "holds no clip"),
    "a mask in a list": ({"attention_mask": [[1] * 400] * 2}, ConfigError, "`attention_mask` must be an array"),
    "labels of no token": ({"labels": TOKENS[:, :0]}, ConfigError, "at least one token per sequence"),
    "no number": ({"inputs": AUDIO * float("nan")}, AudioError, "NaN or infinite"),
    "labels beyond": ({"labels": BEYOND}, ConfigError, "`labels` must be from 0 to 98, .*, but got 106"),
    "the same in JAX": ({"labels": jnp.asarray(BEYOND)}, ConfigError, "but got 106"),
    "labels of one axis": ({"labels": TOKENS[0]}, ConfigError, r"the shape \[3\]"),
    "fractional labels": ({"labels": TOKENS / 2}, ConfigError, "the type float64"),
    "tokens beyond": (
        {"decoder_input_ids": BEYOND},
        ConfigError,
        "`decoder_input_ids` must be from 0 to 98, but got 106",
    ),
    "tokens in a list": ({"decoder_input_ids": TOKENS.tolist()}, ConfigError, "must be an array, but is a list"),
    "fewer labels": ({"decoder_input_ids": TOKENS, "labels": TOKENS[:, :2]}, ConfigError, r"but have \[2, 2\]"),
    "both": (
        {"decoder_input_ids": TOKENS, "decoder_inputs_embeds": np.zeros((2, 3, 24), np.float32)},
        ConfigError,
        "exactly one of",
    ),
    "too much smoothing": ({"smoothing": -0.1}, ConfigError, "must be from 0 to 1, but is -0.1"),
    "a mask of one text": (
        {"decoder_attention_mask": np.ones((1, 3))},
        ConfigError,
        "a row for each of the 2 sequences",
    ),
    "no states": ({"encoder_outputs": ()}, ConfigError, "must begin with the `last_hidden_state`"),
    "states of another width": ({"encoder_outputs": (np.zeros((2, 5, 7)),)}, ConfigError, r"frames, 32\], but has"),
    "no cache": ({"decoder_input_ids": TOKENS, "past_key_values": ()}, ConfigError, "but is a tuple"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_invalid_inputs_are_refused(model: FlaxSpeechEncoderDecoderModel, name: str) -> None:
    changes, error, words = MISTAKES[name]
    given = {"inputs": AUDIO, **changes}
    with pytest.raises(error, match=words):
        model(**given, **({} if {"labels", "decoder_input_ids"} & given.keys() else {"labels": TOKENS}))


def test_tokens_outside_the_vocabulary_are_refused(model: FlaxSpeechEncoderDecoderModel) -> None:
    with pytest.raises(ConfigError, match="`input_ids` must be from 0 to 98, but got 106"):
        model.decoder(BEYOND)
    with pytest.raises(ConfigError, match="`decoder_input_ids` must be from 0 to 98, but got 106"):
        model.generate(AUDIO, decoder_input_ids=BEYOND)
    with pytest.raises(ConfigError, match="`decoder_input_ids` must be from 0 to 98, but got 106"):
        model.decode(BEYOND, (np.zeros((2, 5, 32), np.float32),))


def test_traced_labels_are_not_checked(model: FlaxSpeechEncoderDecoderModel) -> None:
    def loss(labels: jax.Array) -> jax.Array:
        return model(AUDIO, labels=labels).loss

    assert jax.eval_shape(loss, TOKENS).shape == ()


def test_trained_parameters_are_saved(model: FlaxSpeechEncoderDecoderModel, tmp_path: Path) -> None:
    """`save_pretrained(folder, params=state.params)`, as in `transformers`, saves the given parameters."""
    params = jax.tree.map(lambda leaf: leaf + 1, model.params)
    model.save_pretrained(tmp_path, params=params)
    again = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert all(map(np.array_equal, jax.tree.leaves(again.params), jax.tree.leaves(params)))
    with pytest.raises(CheckpointError, match="`params` must be a tree like"):
        model.save_pretrained(tmp_path / "wrong", params={"encoder": {}})
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "wrap",
    [lambda params: {"params": params}, lambda params: {}, lambda params: 3],
    ids=["one tree deeper", "empty", "no tree"],
)
def test_parameters_of_another_shape_are_refused(model: FlaxSpeechEncoderDecoderModel, wrap: Any) -> None:
    for call in model, model.encode, model.generate:
        with pytest.raises(CheckpointError, match=r"a tree like `model.params`, but .* are missing \("):
            call(AUDIO, params=wrap(model.params), **({"labels": TOKENS} if call is model else {}))
