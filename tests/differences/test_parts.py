"""Encoders and decoders alone, under their class names, and joined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dragoman
from dragoman import (
    SpeechEncoderDecoderModel,
)
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]

PARTS = {
    "Wav2Vec2Model": "wav2vec2",
    "HubertModel": "hubert",
    "BertLMHeadModel": "bert",
    "BertForCausalLM": "bert",
    "GPT2LMHeadModel": "gpt2",
    "BartForCausalLM": "bart",
    "MBartForCausalLM": "mbart",
}


@pytest.mark.parametrize(("name", "family"), PARTS.items())
def test_parts_alone_and_joined(build: Any, speech: Speech, tmp_path: Path, name: str, family: str) -> None:
    """Each is built, run, saved, loaded, and joined to another part in two ways."""
    flags = {} if family in ("wav2vec2", "hubert") else {"is_decoder": True, "add_cross_attention": True}
    cls = getattr(dragoman, name)
    part = cls(tiny_config(family, **flags)).eval()
    inputs = torch.tensor([[4, 5, 6]]) if flags else speech(1)
    output = part(inputs)
    values = part(inputs, return_dict=False)
    first = "logits" if flags else "last_hidden_state"
    assert isinstance(values, tuple)
    assert output[first] is output[0] is getattr(output, first)
    assert values[0].equal(output[0])
    part.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert again(inputs)[0].equal(output[0])
    half = build()
    other = {"decoder": half.decoder} if not flags else {"encoder": half.encoder}
    own = {"decoder" if flags else "encoder": again}
    joined = SpeechEncoderDecoderModel(**other, **own)
    named = {f"{role}_model": part for role, part in (other | own).items()}
    warm = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(**named, decoder_start_token_id=3, pad_token_id=1)
    for model in joined, warm:
        assert model.get_decoder() is (other | own)["decoder"]
        assert model(speech(1), decoder_input_ids=torch.tensor([[4, 5]])).logits.isfinite().all()


def test_part_of_another_family_is_refused_by_its_class(tmp_path: Path) -> None:
    with pytest.raises(dragoman.ConfigError, match=r"HubertModel takes a HubertConfig.*'wav2vec2'"):
        dragoman.HubertModel(tiny_config("wav2vec2"))
    dragoman.BertLMHeadModel(tiny_config("bert")).save_pretrained(tmp_path)
    with pytest.raises(dragoman.ConfigError, match="GPT2"):
        dragoman.GPT2LMHeadModel.from_pretrained(tmp_path)
