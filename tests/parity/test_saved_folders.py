"""Every folder of ours that `transformers` can load has all its keys; where it cannot load one, saving says so once."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.families import FAMILIES, find
from dragoman.model.save import tell_apart
from dragoman.testing import TOLERANCES, tiny_config

IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
UNMASKED = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
# What the joint class of `transformers` cannot build or run.
APART = [
    ("whisper", {}, "bert", {}),
    ("speech_to_text", {}, "bert", {}),
    ("canary", {}, "bert", {}),
    ("cohere_asr", {}, "bert", {}),
    ("wav2vec2", {}, "canary", {}),
    ("wav2vec2", {}, "cohere_asr", {}),
    ("moonshine", {}, "bert", {}),
    ("qwen3_asr_encoder", {}, "bert", {}),
    ("wav2vec2", {}, "m2m_100", {}),
    ("wav2vec2", {}, "moonshine", {}),
    ("wav2vec2", {}, "whisper", {}),
    ("wav2vec2", {}, "speech_to_text", {}),
    ("wav2vec2", {}, "speech_to_text_2", {}),
    ("wav2vec2", {}, "t5", {}),
    ("wav2vec2", {}, "mt5", {}),
    ("wav2vec2", {}, "gpt_bigcode", {}),
    ("wav2vec2", {}, "trocr", {"use_learned_position_embeddings": False}),
]
OUT = {name for encoder, _, decoder, fields in APART for name in (encoder, decoder) if not fields} - {
    "wav2vec2",
    "bert",
}
ENCODERS = [family.model_type for family in FAMILIES if family.speech and family.model_type not in OUT]
DECODERS = [
    family.model_type
    for family in FAMILIES
    if family.text and family.text.cross_attends and family.model_type not in OUT
]
PAIRS = [("wav2vec2", {}, name, fields) for name in DECODERS for fields in ({}, {"tie_word_embeddings": False})]
PAIRS += [(name, fields, "bert", {}) for name in ENCODERS for fields in ({}, UNMASKED)]
PAIRS += [("wav2vec2-conformer", {"position_embeddings_type": kind}, "gpt2", {}) for kind in ("rotary", None)]


def built(encoder: str, encoder_fields: dict[str, Any], decoder: str, decoder_fields: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    parts = {"encoder": tiny_config(encoder, **encoder_fields), "decoder": tiny_config(decoder, **decoder_fields)}
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts, **IDS)).eval()
    model.set_padding("reference")
    return model


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_no_key_is_missing_or_unexpected(pair: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = built(*pair)
    tell_apart.cache_clear()
    model.save_pretrained(tmp_path)
    assert not caplog.records
    loaded, info = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    spec, tokens = model.encoder.spec, torch.tensor([[3, 5, 6, 4]])
    length = 1600 if spec.input_name == "input_values" else getattr(spec.frontend, "window", None) or 60
    audio = torch.randn(spec.frontend.input_shape(1, length))
    found, expected = (one.eval()(audio, decoder_input_ids=tokens).logits for one in (model, loaded))
    assert (found - expected).abs().max() <= TOLERANCES["logits"]
    named, _ = transformers.SpeechEncoderDecoderModel.from_pretrained(
        None, config=loaded.config, state_dict=dict(model.state_dict()), output_loading_info=True
    )
    assert torch.equal(named.eval()(audio, decoder_input_ids=tokens).logits, expected)


@pytest.mark.parametrize("pair", APART, ids=str)
def test_saving_says_what_transformers_cannot_load(pair: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = built(*pair)
    tell_apart.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model.save_pretrained(tmp_path)
    name = pair[2] if pair[0] == "wav2vec2" else pair[0]
    (record,) = caplog.records
    assert f"`transformers` cannot load the saved model: it cannot build a model with this '{name}'" in record.message
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert all(map(torch.equal, again.parameters(), model.parameters()))
    audio = torch.zeros(model.encoder.spec.frontend.input_shape(1, 1600))
    with pytest.raises((AttributeError, ValueError, TypeError, NotImplementedError)):
        run_there(tmp_path, audio)


def run_there(folder: Path, audio: torch.Tensor) -> None:
    model = transformers.SpeechEncoderDecoderModel.from_pretrained(folder)
    model(audio, decoder_input_ids=torch.tensor([[3]]))


def test_a_whisper_is_saved_as_one_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tell_apart.cache_clear()
    built("whisper", {}, "whisper", {}).save_pretrained(tmp_path)
    assert not caplog.records
    assert find("whisper").whole in (tmp_path / "config.json").read_text()
