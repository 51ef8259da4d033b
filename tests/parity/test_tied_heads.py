"""Heads that are tied to the token embedding, untied at loading, or not what the configuration says."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from dragoman import (
    FlaxSpeechEncoderDecoderModel,
    SpeechEncoder,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    TextDecoder,
)
from dragoman.families import FAMILIES, find
from dragoman.testing import TOLERANCES, tiny_config

IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
WAVES = torch.randn(2, 800, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[3, 5, 6], [3, 7, 8]])
TIED = [family.model_type for family in FAMILIES if family.text and family.model_type != "mt5"]  # which is never tied


def fusion(family: str) -> dict[str, Any]:
    text = find(family).text
    assert text
    return {} if text.cross_attends else {"fusion": "prefix"}


def start(cls: Any, folder: Path, family: str, **options: Any) -> Any:
    """Warm-start from two small checkpoints, whose head is tied."""
    if not folder.exists():
        torch.manual_seed(0)
        SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(folder / "speech")
        crosses = not fusion(family)
        config = tiny_config(family, tie_word_embeddings=True, is_decoder=True, add_cross_attention=crosses)
        TextDecoder(config).save_pretrained(folder / "text")
    return cls.from_encoder_decoder_pretrained(folder / "speech", folder / "text", **fusion(family), **options, **IDS)


def logits(model: Any) -> np.ndarray:
    given = (WAVES, TOKENS) if isinstance(model, torch.nn.Module) else (WAVES.numpy(), TOKENS.numpy())
    return np.asarray(model(given[0], decoder_input_ids=given[1]).logits)


@pytest.mark.parametrize("family", TIED)
def test_head_is_the_shared_table_or_begins_as_a_copy(family: str, tmp_path: Path) -> None:
    model = start(SpeechEncoderDecoderModel, tmp_path / "parts", family)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    untied = start(SpeechEncoderDecoderModel, tmp_path / "parts", family, decoder_tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "whole")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "whole", decoder_tie_word_embeddings=False)
    for one in untied, again:
        head, table = one.get_output_embeddings().weight, one.get_input_embeddings().weight
        assert head is not table
        assert torch.equal(head, table)
        assert not any("head.weight" in name for name in one.load_report.fresh)


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_the_same_in_jax(family: str, tmp_path: Path) -> None:
    model = start(FlaxSpeechEncoderDecoderModel, tmp_path / "parts", family)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    untied = start(FlaxSpeechEncoderDecoderModel, tmp_path / "parts", family, decoder_tie_word_embeddings=False)
    head, table = untied.get_output_embeddings().weight, untied.get_input_embeddings().weight
    assert head is not table
    assert np.array_equal(head[...], table[...])
    assert np.array_equal(logits(untied), logits(model))


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_head_of_a_file_of_transformers_begins_as_a_copy(layout: str, tmp_path: Path) -> None:
    """A pickle holds a tied head under both names, a safetensors file under one."""
    torch.manual_seed(0)
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
    theirs = transformers.BertLMHeadModel(transformers.BertConfig(**tiny_config("bert").to_dict()))
    theirs.save_pretrained(tmp_path / "text")
    if layout == "bin":
        (tmp_path / "text/model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "text/pytorch_model.bin")
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        tmp_path / "speech", tmp_path / "text", decoder_tie_word_embeddings=False
    )
    assert torch.equal(model.get_output_embeddings().weight, theirs.bert.embeddings.word_embeddings.weight)


def test_views_of_a_tied_head_follow_the_embedding() -> None:
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bart"), **IDS)
    model = SpeechEncoderDecoderModel(config=config).eval()
    for one in model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)):  # noqa: S301
        one.resize_token_embeddings(103)
        assert one.get_output_embeddings().weight is one.get_input_embeddings().weight
        assert one.get_output_embeddings().weight.shape[0] == 103
        with torch.no_grad():
            one.get_output_embeddings().weight[7] = 5.0
        assert (one.get_input_embeddings().weight[7] == 5).all()
        one.set_input_embeddings(torch.nn.Embedding(103, 24))
        assert one.get_output_embeddings().weight is one.get_input_embeddings().weight
        assert one.get_output_embeddings().tied
        assert "decoder.head.weight" not in dict(one.named_parameters())


@pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])
def test_other_head_in_the_file_is_used(cls: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The configuration says tied; the file holds a trained head. `transformers` uses it, too."""
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bart"), **IDS)
    torch.manual_seed(0)
    SpeechEncoderDecoderModel(config=config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for head in tensors["decoder.model.decoder.embed_tokens.weight"].clone(), torch.randn(99, 24):
        save_file({**tensors, "decoder.lm_head.weight": head}, tmp_path / "model.safetensors", {"format": "pt"})
        caplog.clear()
        model = cls.from_pretrained(tmp_path)
        theirs = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path).eval()
        assert np.abs(logits(model) - logits(theirs)).max() <= TOLERANCES["logits"]
        same = torch.equal(head, tensors["decoder.model.decoder.embed_tokens.weight"])
        assert ("holds another one (decoder.lm_head.weight)" in caplog.text) is not same
        assert model.config.decoder.tie_word_embeddings is same
    model.save_pretrained(tmp_path / "again")
    assert np.array_equal(logits(cls.from_pretrained(tmp_path / "again")), logits(model))
