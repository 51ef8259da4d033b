"""MMS language adapters, switched by name, as the CTC model of `transformers` does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoder, SpeechEncoderDecoderModel
from dragoman.checkpoint.options import LoadOptions
from dragoman.errors import CheckpointError, ConfigError, ModelNotFoundError
from dragoman.jax.backend import BACKEND
from dragoman.jax.parts import SpeechEncoder as JaxEncoder
from dragoman.model.load import load_part
from dragoman.testing import TOLERANCES, tiny_config

LANGUAGES = "eng", "fra", "uig-script_arabic"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `transformers` with the adapters of three languages; the French one is a `.bin`."""
    torch.manual_seed(0)
    fields = {"adapter_attn_dim": 8, "do_stable_layer_norm": True, "feat_extract_norm": "layer"}
    config = transformers.Wav2Vec2Config(**tiny_config("wav2vec2", **fields).to_dict())
    model = transformers.Wav2Vec2ForCTC(config)
    path = tmp_path_factory.mktemp("mms")
    model.save_pretrained(path)
    for language in LANGUAGES:
        weights = {name: torch.randn_like(tensor) for name, tensor in model._get_adapters().items()}
        if language == "fra":
            torch.save(weights, path / "adapter.fra.bin")
        else:
            save_file(weights, path / f"adapter.{language}.safetensors", metadata={"format": "pt"})
    return path


def sound() -> torch.Tensor:
    return torch.randn(2, 800, generator=torch.Generator().manual_seed(0))


def difference(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


@torch.no_grad()
def test_switching_languages_equals_transformers(folder: Path) -> None:
    theirs = transformers.Wav2Vec2ForCTC.from_pretrained(folder).eval()
    ours = SpeechEncoder.from_pretrained(folder)
    seen = []
    for language in ("fra", "eng", "uig-script_arabic", "fra"):
        theirs.load_adapter(language)
        ours.load_adapter(language)
        expected = theirs.wav2vec2(sound()).last_hidden_state
        assert difference(ours(sound()).last_hidden_state, expected) <= TOLERANCES["logits"]
        assert all(difference(expected, other) > 0.1 for other in seen[-2:])
        seen.append(expected)
    assert not ours.training


@torch.no_grad()
def test_language_of_a_joint_model_in_both_backends(folder: Path, tmp_path: Path) -> None:
    theirs = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang="eng").eval()
    expected = theirs.wav2vec2(sound()).last_hidden_state
    ours = SpeechEncoder.from_pretrained(folder, target_lang="eng")
    assert difference(ours(sound()).last_hidden_state, expected) <= TOLERANCES["logits"]
    twin, _ = load_part(BACKEND, JaxEncoder, folder, LoadOptions(target_lang="eng"))
    assert difference(twin(sound().numpy()).last_hidden_state, expected) <= TOLERANCES["logits"]

    transformers.GPT2LMHeadModel(transformers.GPT2Config(**tiny_config("gpt2").to_dict())).save_pretrained(tmp_path)
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(folder, tmp_path, encoder_target_lang="fra")
    model.encoder.load_adapter("eng")
    assert difference(model.encoder(sound()).last_hidden_state, expected) <= TOLERANCES["logits"]
    model.save_pretrained(tmp_path / "whole")
    saved = load_file(tmp_path / "whole" / "model.safetensors")
    network = "encoder.layers.1.adapter_layer.linear_1.weight"
    assert torch.equal(
        saved[f"encoder.{network}"], load_file(folder / "adapter.eng.safetensors")[_name(folder, network)]
    )
    flax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "whole")
    flax.encoder.load_adapter("uig-script_arabic")  # the folder of the encoder is known from the configuration
    theirs.load_adapter("uig-script_arabic")
    expected = theirs.wav2vec2(sound()).last_hidden_state
    assert difference(flax.encoder(sound().numpy()).last_hidden_state, expected) <= TOLERANCES["logits"]


def _name(folder: Path, network: str) -> str:
    return next(name for name in load_file(folder / "adapter.eng.safetensors") if name.endswith(network))


def test_invalid_requests_are_refused(folder: Path, tmp_path: Path) -> None:
    encoder = SpeechEncoder.from_pretrained(folder)
    with pytest.raises(
        ModelNotFoundError, match=r"adapter\.deu\.safetensors; languages in .*: eng, fra, uig-script_arabic"
    ):
        encoder.load_adapter("deu")
    with pytest.raises(ConfigError, match="A language must be a code"):
        encoder.load_adapter("../eng")
    with pytest.raises(ConfigError, match="no option 'speed'"):
        encoder.load_adapter("eng", speed=2)
    with pytest.raises(ConfigError, match="adapter_attn_dim"):
        SpeechEncoder(tiny_config("wav2vec2")).load_adapter("eng")
    half = load_file(folder / "adapter.eng.safetensors")
    half = {name: tensor for name, tensor in half.items() if "layers.1" not in name}
    save_file(half, tmp_path / "adapter.abc.safetensors")
    encoder.config.name_or_path = str(tmp_path)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"stack\.layers\.1\.bottleneck"):
        encoder.load_adapter("abc")
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
