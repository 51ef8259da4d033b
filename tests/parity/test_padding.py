"""Padding: our results for a clip in a padded batch equal those of `transformers` for the clip alone.

Where padding changes the results of `transformers` (group norms, adapters, batch norms), `set_padding("reference")`
reproduces them, which test_models.py checks.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dragoman.testing import TOLERANCES

CONVOLUTIONAL = (
    "wav2vec2-group",
    "wav2vec2-layer",
    "wav2vec2-adapter",
    "wav2vec2-adapter-proj",
    "wav2vec2-language-adapter",
    "hubert-group",
    "hubert-batch-norm",
    "hubert-no-feature-norm",
)
LENGTHS = (800, 799, 640, 333, 41, 40)
TOKENS = torch.tensor([[0, 5, 9, 17, 4]])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("encoder", CONVOLUTIONAL)
def test_batch_equals_single_clips_of_transformers(pair_of: Callable[[str, str], Any], encoder: str, side: str) -> None:
    pair = pair_of(encoder, "bert")
    model = pair.load()
    model.set_padding("exact")
    waves = pair.audio(len(LENGTHS), seed=11)["inputs"]
    mask = torch.arange(800) < torch.tensor(LENGTHS)[:, None]
    clips = [wave[:length] for wave, length in zip(waves, LENGTHS, strict=True)]
    if side == "left":
        mask = mask.flip(1)
    batch = torch.zeros(len(clips), 800).masked_scatter(mask, torch.cat(clips))
    batch[~mask] = 5.0  # padding that is not silent must have no effect either
    ours = model(inputs=batch, attention_mask=mask.long(), decoder_input_ids=TOKENS.expand(len(clips), -1))
    for clip, logits in zip(clips, ours.logits, strict=True):
        alone = pair.reference(inputs=clip[None], decoder_input_ids=TOKENS).logits[0]
        assert (logits - alone).abs().max() <= TOLERANCES["logits"], f"a clip of {len(clip)} samples"


def test_transformers_is_not_batch_invariant(pair_of: Callable[[str, str], Any]) -> None:
    """The reason for two modes: if this fails, `transformers` has fixed its group norm, and one mode is enough."""
    pair = pair_of("wav2vec2-group", "bert")
    wave = pair.audio(1, seed=11)["inputs"]
    mask = torch.arange(800)[None] < 333
    padded = pair.reference(inputs=wave * mask, attention_mask=mask.long(), decoder_input_ids=TOKENS)
    alone = pair.reference(inputs=wave[:, :333], decoder_input_ids=TOKENS)
    assert (padded.logits - alone.logits).abs().max() > 0.01
