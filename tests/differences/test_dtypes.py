"""Data types: loading in any of them, `half`, and autocast."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import (
    SpeechEncoderDecoderModel,
)

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])

MASK = (torch.arange(1600) < torch.tensor([[1600], [900]])).long()

KINDS = ("bert", "gpt2", "bart", "mbart")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("decoder", KINDS)
def test_loss_in_every_dtype(build: Any, speech: Speech, tmp_path: Path, dtype: torch.dtype, decoder: str) -> None:
    """The loss equals that of float32 within the precision of the dtype; audio is given as float32."""
    model = build(decoder=decoder)
    wanted = model(speech(2), MASK, labels=LABELS).loss
    model.save_pretrained(tmp_path)
    loaded = SpeechEncoderDecoderModel.from_pretrained(tmp_path, dtype=dtype)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    output = loaded(speech(2), MASK, labels=LABELS)
    assert output.logits.dtype == dtype
    tolerance = 0.2 if dtype == torch.bfloat16 else 0.03 if dtype == torch.float16 else 1e-4
    torch.testing.assert_close(output.loss.float(), wanted, atol=tolerance, rtol=0)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in loaded.parameters() if p.grad is not None)
    assert loaded.generate(speech(2), attention_mask=MASK, max_new_tokens=4).shape[0] == 2


def test_half_and_bfloat16_methods(build: Any, speech: Speech) -> None:
    model = build().half()
    assert (model.dtype, model.encoder.dtype) == (torch.float16, torch.float16)
    assert model.generate(speech(2), attention_mask=MASK, num_beams=2, max_new_tokens=4).shape[0] == 2
    assert model.bfloat16().generate(speech(2), max_new_tokens=4).shape[0] == 2


@pytest.mark.parametrize("decoder", KINDS)
def test_autocast(build: Any, speech: Speech, decoder: str) -> None:
    """Forward, backward and generation; weights and loss stay float32."""
    model = build(decoder=decoder).train()
    wanted = build(decoder=decoder)(speech(2), MASK, labels=LABELS).loss
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.eval()(speech(2), MASK, labels=LABELS).loss, wanted, atol=0.2, rtol=0)
        loss = model.train()(speech(2), MASK, labels=LABELS).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.encoder.stack.layers[0].ffn.in_proj.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert model.eval().generate(speech(2), attention_mask=MASK, max_new_tokens=4).shape[0] == 2
