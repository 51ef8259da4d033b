"""`copy.deepcopy` and pickling of models, in both backends."""

import copy
import pickle
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net import layers as jax_layers
from dragoman.jax.net.tree import flat
from dragoman.spec import Activation
from dragoman.testing import tiny_config
from dragoman.testing.configs import DECODERS, ENCODERS
from dragoman.torch.net import layers as torch_layers

IDS = {"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
BOTH = pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])


def built(cls: Any, encoder: str = "wav2vec2", decoder: str = "bert", fusion: str | None = None) -> Any:
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder), decoder=tiny_config(decoder), fusion=fusion, **IDS
    )
    return cls(config=config)


def tensors(model: Any) -> dict[str, Any]:
    found = model.state_dict() if isinstance(model, torch.nn.Module) else flat(model.tree)
    return {name: np.asarray(tensor) for name, tensor in found.items()}


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301


@BOTH
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copy_generates_the_same_and_is_independent(cls: Any, copied: Any) -> None:
    model = built(cls)
    waves: Any = np.random.default_rng(0).standard_normal((1, 600)).astype(np.float32)
    if cls is SpeechEncoderDecoderModel:
        model, waves = model.eval(), torch.from_numpy(waves)
    expected = np.asarray(model.generate(waves, max_new_tokens=4))  # compiled programs are not copied
    other = copied(model)
    assert np.array_equal(np.asarray(other.generate(waves, max_new_tokens=4)), expected)
    assert other.config == model.config
    other.config.decoder_start_token_id = 7
    assert model.config.decoder_start_token_id == 0
    assert tensors(other).keys() == tensors(model).keys()


@BOTH
@pytest.mark.parametrize(("encoder", "decoder"), list(zip(cycle(ENCODERS), DECODERS, strict=False)), ids=str)
def test_every_family_can_be_pickled(cls: Any, encoder: str, decoder: tuple[str, str | None]) -> None:
    model = built(cls, encoder, *decoder)
    found, expected = tensors(pickled(model)), tensors(model)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_every_activation_can_be_pickled() -> None:
    for table in jax_layers.ACTIVATIONS, torch_layers.ACTIVATIONS:
        assert table.keys() == set(Activation)
        assert pickled(table) == table
