"""Folders that trainers and savers write from our state dict are checkpoints, for us and for `transformers`."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

import dragoman
from dragoman import SpeechEncoder, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, TextDecoder
from dragoman.errors import CheckpointError
from dragoman.testing import TOLERANCES, tiny_config
from dragoman.torch.backend import own_tensors

IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
WAVES = torch.randn(2, 800, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[3, 5, 6], [3, 7, 8]])
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "bert-untied": ("bert", {"tie_word_embeddings": False}),  # two names of one bias
    "gpt2": ("gpt2", {}),  # fused and transposed
    "bart": ("bart", {}),
}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning")


def built(decoder: str = "bert", *, lora: bool = False, **fields: Any) -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config(decoder, **fields)}
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts, **IDS))
    if lora:
        targets = {"bert": ("query", "intermediate.dense"), "gpt2": ("c_attn",)}.get(decoder, ("q_proj",))
        model.add_lora(rank=2, alpha=7, dropout=0.25, targets=[target.rpartition(".")[2] for target in targets])
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if "lora_b" in name:
                    tensor.normal_(std=0.3)
    return model.eval()


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        given = WAVES, TOKENS
        if not isinstance(model, torch.nn.Module):
            given = WAVES.numpy(), TOKENS.numpy()
        return np.asarray(model(given[0], decoder_input_ids=given[1]).logits)


def with_a_trainer(model: Any, folder: Path) -> None:
    arguments = transformers.TrainingArguments(output_dir=str(folder), report_to=[], use_cpu=True)
    transformers.Trainer(model=model, args=arguments).save_model()


def with_accelerate(model: Any, folder: Path) -> None:
    accelerate.Accelerator(cpu=True).save_model(model, folder, max_shard_size="40KB")


def with_safetensors(model: Any, folder: Path) -> None:
    folder.mkdir()
    safetensors.torch.save_model(model, str(folder / "model.safetensors"), {"format": "pt"})


def with_pickle(model: Any, folder: Path) -> None:
    folder.mkdir()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


SAVERS = [with_a_trainer, with_accelerate, with_safetensors, with_pickle]


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_folder_is_opened_by_both(tmp_path: Path, save: Callable[[Any, Path], None], lora: bool, name: str) -> None:
    decoder, fields = DECODERS[name]
    model = built(decoder, lora=lora, **fields)
    save(model, tmp_path / "saved")
    model.config.save_pretrained(tmp_path / "saved")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "saved")
    for (tensor, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), tensor
        assert one.requires_grad == other.requires_grad, tensor
    assert np.array_equal(logits(again), logits(model))
    theirs, info = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert all(".lora_" in key or key.endswith("base_weight") for key in info["unexpected_keys"])
    assert bool(info["unexpected_keys"]) is lora
    assert np.abs(logits(theirs.eval()) - logits(model)).max() <= TOLERANCES["logits"]


def test_lora_of_a_trainer_is_trained_on_in_both_backends(tmp_path: Path) -> None:
    model = built("bart", lora=True)
    with_a_trainer(model, tmp_path)
    model.config.save_pretrained(tmp_path)
    again, flax = (
        cls.from_pretrained(tmp_path) for cls in (SpeechEncoderDecoderModel, dragoman.FlaxSpeechEncoderDecoderModel)
    )
    for loaded in again, flax:
        assert np.abs(logits(loaded) - logits(model)).max() <= TOLERANCES["logits"]
        loaded.save_adapter(tmp_path / "adapter")
        loaded.merge_lora()
        assert np.abs(logits(loaded) - logits(model)).max() <= TOLERANCES["logits"]
    with_safetensors(model.decoder, tmp_path / "part")
    model.decoder.config.save_pretrained(tmp_path / "part")
    part = TextDecoder.from_pretrained(tmp_path / "part", is_decoder=True, add_cross_attention=True)
    model.merge_lora()
    assert not any("lora" in name for name in own_tensors(part))
    for name, tensor in own_tensors(part).items():
        assert torch.allclose(tensor, own_tensors(model.decoder)[name]), name


def test_lora_without_its_settings_is_refused(tmp_path: Path) -> None:
    """A wrapper (FSDP, DDP) writes our names and no settings; the scale cannot be guessed."""
    model = built("bart", lora=True)
    safetensors.torch.save_file(own_tensors(model), tmp_path / "model.safetensors")
    model.config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"LoRA of .*\bmodel\.load_state_dict"):
        SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    fresh = built("bart", lora=True)
    fresh.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert np.array_equal(logits(fresh), logits(model))


@pytest.mark.parametrize("save", SAVERS[1:])
def test_parts_alone(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    model = built("gpt2")
    save(model.encoder, tmp_path / "encoder")
    model.encoder.config.save_pretrained(tmp_path / "encoder")
    theirs, info = transformers.Wav2Vec2Model.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not any(info.values())
    expected = model.encoder(WAVES).last_hidden_state
    with torch.no_grad():
        assert (theirs.eval()(WAVES).last_hidden_state - expected).abs().max() <= TOLERANCES["logits"]
    again = SpeechEncoder.from_pretrained(tmp_path / "encoder")
    assert torch.equal(again(WAVES).last_hidden_state, expected)


def test_a_trained_whisper_is_one_of_transformers(tmp_path: Path) -> None:
    """Its folder is opened with the configuration of a Whisper, and by us with ours too."""
    torch.manual_seed(0)
    parts = {"encoder": tiny_config("whisper"), "decoder": tiny_config("whisper")}
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts, **IDS)).eval()
    mels = torch.randn(1, 8, 60)
    with_a_trainer(model, tmp_path)
    tiny_config("whisper").save_pretrained(tmp_path)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    expected = model(mels, decoder_input_ids=TOKENS[:1]).logits
    assert (theirs(mels, decoder_input_ids=TOKENS[:1]).logits - expected).abs().max() <= TOLERANCES["logits"]
    for config in tiny_config("whisper"), model.config:
        config.save_pretrained(tmp_path)
        again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
        found = again(mels, decoder_input_ids=TOKENS[:1]).logits
        assert (found - expected).abs().max() <= TOLERANCES["logits"]


def test_state_dict_answers_to_both_names() -> None:
    model = built("gpt2")
    state = model.state_dict()
    for name, tensor in model.named_parameters():
        assert name in state
        assert state[name] is not None
        assert torch.equal(state.get(name), tensor)
    layer = "decoder.transformer.h.0.attn.c_attn.weight"
    assert state[layer].shape == (24, 72)
    assert layer in state
    assert not any(name.startswith("decoder.stack") for name in state)
    assert state.get("no.such.tensor") is None
    with pytest.raises(KeyError):
        state["no.such.tensor"]
    assert state["enc_to_dec_proj.weight"].data_ptr() == model.bridge.proj.weight.data_ptr()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("decoder", ["bert", "gpt2"])
def test_state_dict_is_loaded_under_either_name(decoder: str, lora: bool) -> None:
    model = built(decoder, lora=lora)
    for state in model.state_dict(), own_tensors(model), copy.deepcopy(model.state_dict()):
        other = built(decoder, lora=lora)
        with torch.no_grad():
            for tensor in other.parameters():
                tensor.zero_()
        other.load_state_dict(state)
        assert np.array_equal(logits(other), logits(model))
    with pytest.raises(RuntimeError, match=r"Unexpected key.*no\.such\.tensor"):
        built(decoder, lora=lora).load_state_dict({**model.state_dict(), "no.such.tensor": torch.ones(1)})
    wrapped = torch.nn.DataParallel(built(decoder, lora=lora))
    wrapped.load_state_dict({f"module.{name}": tensor for name, tensor in model.state_dict().items()})
    assert np.array_equal(logits(wrapped.module), logits(model))


def test_saved_state_dict_is_a_plain_one(tmp_path: Path) -> None:
    torch.save(built().state_dict(), tmp_path / "state.bin")
    assert type(torch.load(tmp_path / "state.bin")).__name__ == "OrderedDict"
