"""FastConformer encoders: recognisers that `transformers` saved are read as encoders, and joined to any decoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import dragoman
from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoder, SpeechEncoderDecoderModel
from dragoman.checkpoint.options import LoadOptions
from dragoman.errors import ConfigError
from dragoman.model.load import load_part
from dragoman.testing import tiny_config
from dragoman.torch.backend import BACKEND

from .conftest import assert_close, randomize, reference_config

RECOGNISERS = {"CTC": {"vocab_size": 33, "pad_token_id": 32}, "TDT": {"vocab_size": 33, "blank_token_id": 32}}


def recogniser(kind: str, folder: Path) -> Any:
    torch.manual_seed(0)
    encoder = tiny_config("parakeet_encoder", num_hidden_layers=1).to_dict()
    config = getattr(transformers, f"Parakeet{kind}Config")(encoder_config=encoder, **RECOGNISERS[kind])
    theirs = getattr(transformers, f"ParakeetFor{kind}")(config).eval()
    randomize(theirs)
    theirs.save_pretrained(folder)
    return theirs


def speech(rows: int, frames: int = 90) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    lengths = torch.tensor([frames, frames - 13, 41, 9][:rows])
    mask = (torch.arange(frames) < lengths[:, None]).long()
    tones = 2 * torch.randn(rows, 1, 16, generator=generator)
    features = torch.randn(rows, frames, 16, generator=generator) + tones
    return {"input_features": features * mask[:, :, None], "attention_mask": mask}


@pytest.mark.parametrize("kind", RECOGNISERS)
def test_a_recogniser_is_an_encoder(kind: str, tmp_path: Path) -> None:
    theirs = recogniser(kind, tmp_path)
    ours = SpeechEncoder.from_pretrained(tmp_path)
    _, report = load_part(BACKEND, SpeechEncoder, tmp_path, LoadOptions())
    batch = speech(4)
    expected = theirs.encoder(**batch)
    found = ours(**batch)
    valid = expected.attention_mask.bool()
    assert_close(found.last_hidden_state[valid], expected.last_hidden_state[valid])
    assert found.lengths.tolist() == valid.sum(1).tolist()
    heads = {name for name in theirs.state_dict() if not name.startswith("encoder.")}
    assert set(report.dropped) == heads
    assert all("not used" in why for why in report.dropped.values())
    with pytest.raises(ConfigError, match="is a speech encoder alone"):
        SpeechEncoderDecoderModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("fusion", ["prefix", "cross_attention"])
def test_joined_to_a_text_model_it_learns_is_saved_and_writes(fusion: str, tmp_path: Path) -> None:
    recogniser("CTC", tmp_path / "speech")
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(reference_config("llama", vocab_size=50)).save_pretrained(tmp_path / "text")
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        tmp_path / "speech", tmp_path / "text", fusion=fusion, decoder_start_token_id=0, pad_token_id=1, eos_token_id=2
    )
    batch = speech(3) | {"labels": torch.randint(3, 50, (3, 5), generator=torch.Generator().manual_seed(0))}
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    with torch.enable_grad():
        model(**batch).loss.backward()
    assert model.encoder.frontend.convs[1].weight.grad.abs().max() > 0 or fusion == "cross_attention"  # closed gates
    optimizer.step()
    model.eval().save_pretrained(tmp_path / "whole")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "whole")
    assert_close(again(**batch).logits, model(**batch).logits, "cached")
    inputs = speech(3)
    texts = again.generate(**inputs, max_new_tokens=6, num_beams=3).tolist()
    assert texts == model.generate(**inputs, max_new_tokens=6, num_beams=3).tolist()
    flax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "whole")
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    assert np.asarray(flax.generate(**arrays, max_new_tokens=6, num_beams=3).sequences).tolist() == texts


def test_what_is_not_supported_is_refused() -> None:
    for field, value in ("subsampling_conv_stride", 3), ("subsampling_factor", 6), ("dropout_positions", 0.1):
        with pytest.raises(ConfigError, match="FastConformer needs"):
            SpeechEncoder(tiny_config("parakeet_encoder", **{field: value}))
    with pytest.raises(ConfigError, match="must be a multiple of 8, but are 12"):
        dragoman.SpeechEncoder(tiny_config("parakeet_encoder", num_mel_bins=12))
