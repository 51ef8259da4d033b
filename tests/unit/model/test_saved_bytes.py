"""A model that was never saved before is saved byte by byte as after loading, in both backends."""

from pathlib import Path

import pytest
import torch

from dragoman import AutoProcessor, FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

MODELS = {"torch": SpeechEncoderDecoderModel, "jax": FlaxSpeechEncoderDecoderModel}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fresh(backend, encoder, decoder):
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder),
        decoder=tiny_config(decoder),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    return MODELS[backend](config=config)


@pytest.mark.parametrize(
    ("backend", "encoder", "decoder"),
    [
        ("torch", "wav2vec2", "gpt2"),
        ("torch", "wavlm", "mbart"),  # mBART has a forced end token of its own
        ("torch", "whisper", "whisper"),
        ("torch", "speech_to_text", "t5"),
        ("jax", "hubert", "marian"),
        ("jax", "whisper", "whisper"),
    ],
)
def test_the_first_save_is_that_of_the_loaded_model(backend, encoder, decoder, tmp_path):
    fresh(backend, encoder, decoder).save_pretrained(tmp_path / "one")
    MODELS[backend].from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert b'"dtype": "float32"' in content(tmp_path / "one")["config.json"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_half_precision_model_is_saved_as_such(dtype, tmp_path):
    fresh("torch", "wav2vec2", "bart").to(getattr(torch, dtype)).save_pretrained(tmp_path / "one")
    SpeechEncoderDecoderModel.from_pretrained(tmp_path / "one", dtype="auto").save_pretrained(tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert f'"dtype": "{dtype}"'.encode() in content(tmp_path / "one")["config.json"]


def test_parts_and_processing_are_saved_byte_by_byte(tiny_checkpoint, tmp_path):
    model = SpeechEncoderDecoderModel.from_pretrained(tiny_checkpoint)
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        AutoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / name)
        model = SpeechEncoderDecoderModel.from_pretrained(tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    part = type(fresh("torch", "wav2vec2", "gpt2").encoder)(tiny_config("wav2vec2"))
    part.save_pretrained(tmp_path / "part")
    type(part).from_pretrained(tmp_path / "part").save_pretrained(tmp_path / "again")
    assert content(tmp_path / "part") == content(tmp_path / "again")
