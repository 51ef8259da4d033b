"""Models with 8-bit linear layers: near float32, in every kind of layer, and the same in any batch."""

import copy

import pytest
import torch
from torch import nn

from dragoman.errors import ConfigError
from dragoman.testing.tolerances import TOLERANCES
from dragoman.torch.int8 import Int8Linear, quantise

AUDIO = torch.randn(3, 4000, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[4, 5, 6, 7]] * 3)
PAIRS = [
    ("wav2vec2", "bart", None),
    ("wavlm", "gpt2", None),
    ("wav2vec2-conformer", "t5", None),
    ("sew-d", "llama", "prefix"),
    ("hubert", "electra", None),
]


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the differences as a share of the norm of the numbers."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("encoder", "decoder", "fusion"), PAIRS)
@torch.no_grad()
def test_near_float32(build, encoder, decoder, fusion):
    model = build(encoder, decoder, fusion=fusion)
    rounded = copy.deepcopy(model)
    quantise(rounded)
    kinds = [type(module) for module in rounded.modules()]
    assert kinds.count(Int8Linear) > 10
    wide = [m for m in rounded.modules() if type(m) is nn.Linear and min(m.weight.shape) >= 16]
    assert not wide
    expected = model(AUDIO, decoder_input_ids=TOKENS)
    found = rounded(AUDIO, decoder_input_ids=TOKENS)
    assert 0 < distance(found.encoder_last_hidden_state, expected.encoder_last_hidden_state) < TOLERANCES["int8"]
    assert 0 < distance(found.logits, expected.logits) < TOLERANCES["int8"]


@torch.no_grad()
def test_other_rows_change_nothing(build):
    layer = Int8Linear(torch.randn(40, 24), torch.randn(40))
    rows = torch.randn(6, 24) * torch.tensor([1e-3, 1.0, 5.0, 0.0, 1e4, 1.0])[:, None]
    assert torch.equal(layer(rows), torch.cat([layer(row) for row in rows.split(1)]))
    model = build("wav2vec2", "bart")
    quantise(model)
    many = model(AUDIO, decoder_input_ids=TOKENS).logits
    alone = model(AUDIO[1:2], decoder_input_ids=TOKENS[1:2]).logits
    assert distance(many[1:2], alone) < TOLERANCES["batch"]


@torch.no_grad()
def test_large_activations_do_not_overflow():
    """Sums of two products of 8 bits exceed 16 bits."""
    weight, x = torch.full((32, 64), 3.0), torch.full((2, 64), 7.0)
    torch.testing.assert_close(Int8Linear(weight, None)(x), x @ weight.t(), rtol=1e-3, atol=0)


def test_a_rounded_model_is_not_saved(build, tmp_path):
    model = build()
    quantise(model)
    with pytest.raises(ConfigError, match="have no place in a checkpoint"):
        model.save_pretrained(tmp_path)
    assert not any(tmp_path.iterdir())
