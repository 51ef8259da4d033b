"""Families that cannot join: the error says why and names what can, and nothing was fetched or read in vain."""

import json
from pathlib import Path
from typing import Any

import pytest

from dragoman import ConfigError, SpeechEncoder, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, TextDecoder
from dragoman.errors import ModelNotFoundError
from dragoman.families import FAMILIES, find
from dragoman.families.refusals import WHY
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import tiny_config

BOTH = pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])


@pytest.mark.parametrize(
    ("model_type", "why"),
    [
        ("deberta", "attends in both directions"),
        ("mamba", "keep a running state"),
        ("bloom", "ALiBi"),
        ("mixtral", "choose among experts"),
        ("clip", "encodes images"),
        ("vits", "generates sound"),
        ("fun_asr_nano", r"no half of it can be loaded\. The nearest is an encoder of whisper joined to qwen3"),
        ("nemotron_asr_streaming", "transducer"),
        ("parakeet_tdt", "it has no text decoder"),
        ("encoder-decoder", "save its decoder"),
        ("nothing_known", "no family describes"),
    ],
)
def test_the_error_says_why_and_what_can(model_type: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder={"model_type": model_type})
    if model_type == "parakeet_tdt":  # an encoder in the wrong place
        return
    encoders, decoders = str(caught.value).partition("; decoders are ")[::2]
    assert "hubert" in encoders
    assert "hubert" not in decoders
    assert "bart" in decoders
    assert "bart" not in encoders


@pytest.mark.parametrize("model_type", sorted(name for name in WHY if "The nearest" in WHY[name]))
def test_the_nearest_families_are_here(model_type: str) -> None:
    nearest = WHY[model_type].partition("The nearest")[2]
    known = {family.model_type for family in FAMILIES}
    assert known & set(nearest.replace(";", " ").split())


def test_the_error_needs_no_repository() -> None:
    with pytest.raises(ConfigError, match=r"dragoman\.AutoConfig\.register"):
        find("nothing_known")


def test_no_reason_is_about_a_family_that_is_here() -> None:
    assert {family.model_type for family in FAMILIES} & WHY.keys() == set()
    with pytest.raises(ConfigError, match='Did you mean "bert"'):
        find("berd")


@BOTH
@pytest.mark.parametrize(
    ("role", "model_type"),
    [("encoder", "deberta"), ("encoder", "pegasus"), ("decoder", "deberta"), ("decoder", "sew"), ("decoder", "llama")],
)
def test_weights_are_not_asked_for_in_vain(cls: Any, role: str, model_type: str, tmp_path: Path) -> None:
    """The family is refused although the weights of both checkpoints are corrupt, so none were read."""
    for folder, known in ("encoder", "wav2vec2"), ("decoder", "bart"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(
            json.dumps({"model_type": model_type if role == folder else known})
        )
        (tmp_path / folder / "model.safetensors").write_bytes(b"corrupt")
    with pytest.raises(ConfigError, match=r"is not supported|cannot be the|no cross-attention"):
        cls.from_encoder_decoder_pretrained(tmp_path / "encoder", tmp_path / "decoder")


@BOTH
def test_a_part_alone_is_refused_before_its_weights_are_asked_for(cls: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="a text decoder alone"):
        cls.from_pretrained(tmp_path)


@BOTH
def test_a_folder_without_weights_still_says_so(cls: Any, tmp_path: Path) -> None:
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
    TextDecoder(tiny_config("bart")).save_pretrained(tmp_path / "text")
    (tmp_path / "text/model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="No weights in"):
        cls.from_encoder_decoder_pretrained(tmp_path / "speech", tmp_path / "text")
