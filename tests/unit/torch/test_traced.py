"""`torch.jit.trace` of whole models: with `torchscript=True` they return tuples, as in `transformers`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import TOLERANCES, tiny_config

PAIRS = [("wav2vec2", "bert"), ("wav2vec2", "bart"), ("hubert", "gpt2"), ("whisper", "whisper"), ("wavlm", "roberta")]


def arguments(encoder: str, samples: int, shortest: int, tokens: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(samples)
    ids = torch.randint(3, 20, (2, tokens), generator=generator)
    if encoder == "whisper":
        return torch.randn(2, 8, 60, generator=generator), torch.ones(2, 60).long(), ids
    mask = (torch.arange(samples) < torch.tensor([[samples], [shortest]])).long()
    return torch.randn(2, samples, generator=generator) * mask, mask, ids


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_a_trace_takes_other_lengths(encoder: str, decoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"encoder": tiny_config(encoder), "decoder": tiny_config(decoder)}
    SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts)).save_pretrained(tmp_path)
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path, torchscript=True)
    other = arguments(encoder, 1300, 900, 5)
    with torch.no_grad():
        traced = torch.jit.trace(model, arguments(encoder, 1000, 800, 3))
        expected = model(*other)
        assert isinstance(expected, tuple)
        torch.jit.save(traced, tmp_path / "traced.pt")
        for one in traced, torch.jit.load(tmp_path / "traced.pt"):
            assert (one(*other)[0] - expected[0]).abs().max() <= TOLERANCES["logits"]
    assert not isinstance(model(*other, return_dict=True), tuple)
