"""Whole Moonshine models, which `transformers` saved: logits, loss, texts, saving, JAX.

The clips of a batch are of one length, since `transformers` computes its first norm over padding too.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import SpeechEncoderDecoderModel
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import tiny_config

from .conftest import assert_close

FIELDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biased": {"attention_bias": True, "tie_word_embeddings": False, "decoder_hidden_act": "gelu"},
}


@pytest.fixture(scope="module", params=FIELDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Theirs, its folder and ours, whose texts depend on the speech."""
    folder = tmp_path_factory.mktemp("moonshine")
    torch.manual_seed(0)
    config = transformers.MoonshineConfig(**tiny_config("moonshine", vocab_size=30, **FIELDS[request.param]).to_dict())
    theirs = transformers.MoonshineForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            noise = torch.randn_like(tensor)
            if tensor.ndim == 1:
                tensor.add_(0.1 * noise)
            else:
                gain = 3.0 if "encoder_attn" in name or "conv" in name else 1.0
                tensor.copy_(noise * gain * (tensor.shape[0] / tensor.numel()) ** 0.5)
    theirs.save_pretrained(folder)
    return theirs, folder, SpeechEncoderDecoderModel.from_pretrained(folder)


def clips(count: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    tone = torch.sin(torch.rand(count, 1, generator=generator) * torch.arange(samples))
    return torch.randn(count, samples, generator=generator) * torch.rand(count, 1, generator=generator) + 2 * tone


@pytest.mark.parametrize("samples", [895, 4321, 16000])
def test_logits_and_loss(both: Any, samples: int) -> None:
    theirs, _, ours = both
    assert ours.load_report.fresh == []
    batch = {"input_values": clips(3, samples), "labels": torch.randint(3, 30, (3, 7))}
    batch["labels"][1, 4:] = -100
    assert_close(ours(**batch).logits, theirs(**batch).logits)
    assert_close(ours(**batch).loss, theirs(**batch).loss, "loss")


@pytest.mark.filterwarnings("ignore:.*words may be missing")
@pytest.mark.parametrize("num_beams", [1, 5])
def test_texts(both: Any, num_beams: int) -> None:
    theirs, _, ours = both
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    found: set[tuple[int, ...]] = set()
    for samples in (3000, 5999):
        inputs = clips(50, samples)
        everything = torch.ones_like(inputs, dtype=torch.long)
        texts = ours.generate(inputs, **options).tolist()
        assert texts == theirs.generate(inputs, attention_mask=everything, **options).tolist()
        found |= {tuple(text) for text in texts}
    assert len(found) > 5, "texts must depend on the speech to prove much"


def test_transformers_loads_the_saved_folder(both: Any, tmp_path: Path) -> None:
    theirs, _, ours = both
    ours.save_pretrained(tmp_path)
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_in_jax(both: Any) -> None:
    _, folder, ours = both
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
    inputs, mask = clips(4, 4000), torch.arange(4000) < torch.tensor([[4000], [2500], [895], [3999]])
    batch = {"inputs": inputs * mask, "attention_mask": mask.long()}
    tokens = torch.randint(3, 30, (4, 9), generator=torch.Generator().manual_seed(0))
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}
    expected = ours(**batch, decoder_input_ids=tokens).logits
    assert_close(model(**arrays, decoder_input_ids=tokens.numpy()).logits, expected)
    options = {"num_beams": 3, "max_new_tokens": 8}
    assert np.asarray(model.generate(**arrays, **options)).tolist() == ours.generate(**batch, **options).tolist()
