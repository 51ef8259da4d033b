"""Warm starts: the weights of a speech model and a language model are loaded, and fresh weights are reported.

`transformers` writes the checkpoints, of models with other heads: CTC, pre-training, sequence-to-sequence.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import dragoman
from dragoman.testing import TOLERANCES, tiny_config
from dragoman.torch.backend import own_tensors

TOKENS = torch.randint(3, 99, (4, 7), generator=torch.Generator().manual_seed(0))
MEMORY = torch.randn(4, 9, 24, generator=torch.Generator().manual_seed(1))

SPEECH = {
    "ctc": (transformers.Wav2Vec2ForCTC, "wav2vec2", {}),
    "pre-training": (transformers.Wav2Vec2ForPreTraining, "wav2vec2", {"do_stable_layer_norm": True}),
    "speaker": (transformers.Wav2Vec2ForXVector, "wav2vec2", {}),
    "hubert": (transformers.HubertModel, "hubert", {}),
    "whisper": (transformers.WhisperForConditionalGeneration, "whisper", {"d_model": 32}),
}
TEXT = {
    "bert": (transformers.BertForPreTraining, "bert"),
    "gpt2": (transformers.GPT2LMHeadModel, "gpt2"),
    "bart": (transformers.BartForConditionalGeneration, "bart"),
    "mbart": (transformers.MBartForConditionalGeneration, "mbart"),
    "whisper": (transformers.WhisperForConditionalGeneration, "whisper"),
}
BRIDGE = {"bridge.proj.weight", "bridge.proj.bias"}


def save(folder: Path, model: type[Any], model_type: str, **fields: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**tiny_config(model_type, **fields).to_dict())
    built = model(config).eval()
    with torch.no_grad():
        for tensor in built.parameters():
            tensor.add_(0.2 * torch.randn_like(tensor))
    built.save_pretrained(folder)
    return built


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    save(tmp_path / "speech", *SPEECH["ctc"][:2])
    return tmp_path / "speech"


@pytest.mark.parametrize("name", SPEECH)
def test_encoder_weights_are_loaded(tmp_path: Path, name: str) -> None:
    model, model_type, fields = SPEECH[name]
    theirs = save(tmp_path / "speech", model, model_type, **fields)
    save(tmp_path / "text", *TEXT["bart"])
    ours = dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "speech", tmp_path / "text")
    if name == "whisper":
        audio = torch.randn(2, 8, 60)
        wanted = theirs.model.encoder(audio).last_hidden_state
    else:
        audio = torch.randn(2, 700)
        wanted = getattr(theirs, model_type, theirs)(audio).last_hidden_state
    assert (ours.encoder(audio).last_hidden_state - wanted).abs().max() <= TOLERANCES["logits"]
    assert set(ours.load_report.fresh) == BRIDGE
    assert not ours.training
    assert not ours.encoder.training


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_language_model_is_loaded_with_fresh_cross_attention(speech: Path, tmp_path: Path, name: str) -> None:
    theirs = save(tmp_path / "text", *TEXT[name])
    ours = dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(speech, tmp_path / "text")
    fresh = set(ours.load_report.fresh) - BRIDGE
    assert fresh == {f"decoder.{key}" for key in own_tensors(ours.decoder) if ".cross_attn" in key}
    plain = dragoman.TextDecoder.from_pretrained(tmp_path / "text", is_decoder=name == "gpt2")
    logits = plain(TOKENS).logits
    wanted = theirs(TOKENS)
    wanted = wanted.prediction_logits if name == "bert" else wanted.logits
    assert (logits - wanted).abs().max() <= TOLERANCES["logits"]
    same = own_tensors(plain)
    for key, tensor in own_tensors(ours.decoder).items():
        assert key not in same or torch.equal(tensor, same[key])


@pytest.mark.parametrize("name", ["bart", "mbart", "whisper"])
def test_decoder_with_cross_attention_is_loaded_completely(speech: Path, tmp_path: Path, name: str) -> None:
    """In `transformers` the embedding is random: the file holds it only under `shared.weight`."""
    theirs = save(tmp_path / "text", *TEXT[name])
    ours = dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(speech, tmp_path / "text")
    assert set(ours.load_report.fresh) == BRIDGE
    logits = ours.decoder(TOKENS, encoder_hidden_states=MEMORY).logits
    wanted = theirs(encoder_outputs=(MEMORY,), decoder_input_ids=TOKENS).logits
    assert (logits - wanted).abs().max() <= TOLERANCES["logits"]


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart", "mbart"])
def test_transformers_loads_the_joined_model(speech: Path, tmp_path: Path, name: str) -> None:
    save(tmp_path / "text", *TEXT[name])
    ours = dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(speech, tmp_path / "text")
    ours.config.decoder_start_token_id, ours.config.pad_token_id = 0, 1
    ours.save_pretrained(tmp_path / "joined")
    theirs, info = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "joined", output_loading_info=True)
    assert {kind: keys for kind, keys in info.items() if keys} == {}
    batch = {"input_values": torch.randn(4, 700), "labels": TOKENS}
    assert (ours(**batch).logits - theirs(**batch).logits).abs().max() <= TOLERANCES["logits"]
    again = dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "joined")
    assert again.load_report.fresh == []


@pytest.mark.parametrize("name", ["pegasus", "marian"])
def test_sinusoids_missing_in_a_checkpoint_are_computed(speech: Path, tmp_path: Path, name: str) -> None:
    full = {"pegasus": transformers.PegasusForConditionalGeneration, "marian": transformers.MarianMTModel}[name]
    theirs = save(tmp_path / "text", full, name, d_model=32)
    tensors = load_file(tmp_path / "text/model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if "embed_positions" not in key}
    save_file(kept, tmp_path / "text/model.safetensors", {"format": "pt"})
    ours = dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(speech, tmp_path / "text")
    assert ours.load_report.fresh == []
    assert ours.load_report.computed == ["decoder.embed.positions.weight"]
    expected = theirs.model.decoder.embed_positions.create_weight()
    assert (ours.decoder.embed.positions.weight - expected).abs().max() <= 1e-5
    assert not ours.decoder.embed.positions.weight.requires_grad


def test_fresh_weights_are_logged(speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "text", *TEXT["gpt2"])
    with caplog.at_level(logging.WARNING, logger="dragoman"):
        dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(speech, tmp_path / "text")
    (record,) = caplog.records
    assert "tensors are new and need training" in record.getMessage()
    assert "decoder.stack.layers.{0-1}.cross_attn.q_proj.weight" in record.getMessage()


def test_prefixed_fields_and_options(speech: Path, tmp_path: Path) -> None:
    save(tmp_path / "text", *TEXT["bart"])
    model = dragoman.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        speech,
        tmp_path / "text",
        encoder_add_adapter=True,
        encoder_layerdrop=0.0,
        decoder_dropout=0.3,
        decoder_start_token_id=7,
        dtype="bfloat16",
    )
    assert model.config.encoder.layerdrop == 0.0
    assert model.config.decoder.dropout == 0.3
    assert model.config.decoder_start_token_id == 7
    assert {tensor.dtype for tensor in model.encoder.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in model.decoder.parameters()} == {torch.bfloat16}
    assert any(name.startswith("encoder.adapter.") for name in model.load_report.fresh)


@pytest.fixture
def reference_start() -> Callable[[Path, Path], Any]:
    return lambda speech, text: transformers.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(speech, text)


def test_transformers_still_loses_the_shared_embedding(
    speech: Path, tmp_path: Path, reference_start: Callable[[Path, Path], Any]
) -> None:
    """If this fails, `transformers` has fixed it, and the test of the shared embedding above is less needed."""
    theirs = save(tmp_path / "text", *TEXT["bart"])
    joined = reference_start(speech, tmp_path / "text")
    lost = joined.decoder.model.decoder.embed_tokens.weight - theirs.model.shared.weight
    assert lost.abs().max() > 0.1
