"""Padding inside a text: RoBERTa and fairseq's sinusoids number the tokens that are not padding, the others the places.

Upstream counts within a call, behind all that its cache holds, padding included; so do both of our backends.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import TOLERANCES

PAD = 1
APART = ("roberta", "xlm-roberta", "camembert", "trocr-sinusoids")
# On the left, in the middle, on the right, nowhere; the start token is 0.
TEXTS = torch.tensor([[1, 1, 1, 0, 5, 9, 4], [0, 5, 1, 1, 8, 1, 4], [0, 5, 9, 17, 1, 1, 1], [0, 8, 5, 9, 17, 4, 6]])


@pytest.mark.parametrize("decoder", [*APART, "bert", "xglm"])
def test_logits(pair_of: Callable[[str, str], Any], decoder: str) -> None:
    pair = pair_of("wav2vec2-layer", decoder)
    model, real = pair.load(), TEXTS != PAD
    batch = {**pair.audio(len(TEXTS), seed=3), "decoder_input_ids": TEXTS}
    for more in {}, {"decoder_attention_mask": real.long()}:
        difference = model(**batch, **more).logits - pair.reference(**batch, **more).logits
        assert difference[real].abs().max() <= TOLERANCES["logits"]
    memory = torch.randn(len(TEXTS), 5, model.decoder.spec.memory_width, generator=torch.Generator().manual_seed(0))
    twin = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder).decoder
    ours = twin(TEXTS.numpy(), encoder_hidden_states=memory.numpy(), attention_mask=real.numpy()).logits
    expected = model.decoder(TEXTS, encoder_hidden_states=memory, attention_mask=real).logits
    assert np.abs(np.asarray(ours) - expected.numpy())[real].max() <= TOLERANCES["logits"]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("decoder", APART)
def test_texts_behind_padded_prompts(pair_of: Callable[[str, str], Any], decoder: str, num_beams: int) -> None:
    pair = pair_of("wav2vec2-layer", decoder)
    batch = {**pair.audio(len(TEXTS), seed=3), "decoder_input_ids": TEXTS[:, :5]}
    options = {"num_beams": num_beams, "max_new_tokens": 8}
    expected = pair.reference.generate(**batch, **options)
    assert torch.equal(pair.load().generate(**batch, **options), expected)


@pytest.mark.slow  # it compiles a search
@pytest.mark.parametrize("num_beams", [1, 3])
def test_jax_writes_the_same(pair_of: Callable[[str, str], Any], num_beams: int) -> None:
    pair = pair_of("wav2vec2-layer", "roberta")
    batch = {**pair.audio(len(TEXTS), seed=3), "decoder_input_ids": TEXTS[:, :5]}
    options = {"num_beams": num_beams, "max_new_tokens": 8}
    expected = pair.reference.generate(**batch, **options)
    ours = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder)
    written = ours.generate(**{name: value.numpy() for name, value in batch.items()}, **options)
    assert np.asarray(written).tolist() == expected.tolist()
