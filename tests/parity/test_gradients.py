"""Training: the same gradients as `transformers` for every weight."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dragoman.model.save import model_tensors
from dragoman.torch.backend import BACKEND, own_tensors

PAIRS = [
    ("wav2vec2-group", "bert"),
    ("wav2vec2-layer", "gpt2"),
    ("wav2vec2-adapter-proj", "bart"),
    ("wav2vec2-language-adapter", "mbart"),
    ("hubert-group", "gpt2"),
    ("hubert-no-feature-norm", "bart"),
    ("wavlm-layer", "bert"),
    ("whisper", "whisper"),
    ("wav2vec2-layer", "roberta"),
    ("wav2vec2-layer", "electra"),
    ("wav2vec2-layer", "marian"),
    ("wav2vec2-layer", "xglm"),
]


def labels() -> torch.Tensor:
    found = torch.randint(3, 30, (4, 7), generator=torch.Generator().manual_seed(0))
    found[1, 4:] = found[3, 1:] = -100
    return found


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_gradients(pair_of: Callable[[str, str], Any], encoder: str, decoder: str) -> None:
    pair = pair_of(encoder, decoder)
    model = pair.load()
    batch = {**pair.audio(4, seed=3), "labels": labels()}
    with torch.enable_grad():
        pair.reference.zero_grad()
        pair.reference(**batch).loss.backward()
        model(**batch).loss.backward()
    theirs = {name: p.grad for name, p in pair.reference.named_parameters() if p.grad is not None}
    with torch.no_grad():
        for parameter in model.parameters():  # store each gradient in its weight, to compare them by name
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    ours = model_tensors(BACKEND, model, own_tensors(model))
    assert theirs.keys() <= ours.keys()
    assert len(theirs) > 50
    for name, gradient in theirs.items():
        scale = max(1.0, float(gradient.abs().max()))
        # `transformers` never trains the embedding of BERT's padding id 0, which is the start id here.
        first = 1 if "word_embeddings" in name else 0
        assert (ours[name] - gradient)[first:].abs().max() <= 1e-4 * scale, name
    assert all(not ours[name].any() for name in ours.keys() - theirs.keys())
