"""What a caller may pass to a model, and what a mistake gives: one sentence, never numbers that look right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import AudioError, ConfigError, SpeechEncoderDecoderModel
from dragoman.errors import DragomanError

Build = Callable[..., SpeechEncoderDecoderModel]
AUDIO = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[5, 6, 2], [7, 2, -100]])


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_as_many_texts_as_clips(build: Build, rows: int) -> None:
    """Rows beyond the clips would be taken for beams of one clip: a loss of nothing, in silence."""
    model, labels = build(), LABELS[:1].repeat(rows, 1)
    with pytest.raises(ConfigError, match=f"as many texts as clips, but there are {rows} and 2"):
        model(AUDIO, labels=labels)
    with pytest.raises(ConfigError, match=f"there are {rows} and 2"):
        model(AUDIO, decoder_input_ids=labels.clamp(min=0))
    with pytest.raises(ConfigError, match=f"there are {rows} and 2"):
        model.decoder(labels.clamp(min=0), encoder_hidden_states=torch.zeros(2, 5, 24))


MISTAKES: dict[str, tuple[dict[str, Any], type[DragomanError], str]] = {
    "an array": ({"inputs": AUDIO.numpy()}, AudioError, "must be a tensor, but is a ndarray"),
    "a list": ({"inputs": AUDIO.tolist()}, AudioError, 'return_tensors="pt"'),
    "no clips": ({"inputs": AUDIO[:0], "labels": LABELS[:0]}, AudioError, "holds no clip"),
    "no samples": ({"inputs": AUDIO[:, :0]}, AudioError, "a clip has 0"),
    "one axis": ({"inputs": AUDIO[0]}, AudioError, r"\[batch, samples\], but has \[400\]"),
    "labels of one axis": ({"labels": LABELS[0]}, ConfigError, r"the shape \[3\]"),
    "fractional labels": ({"labels": LABELS.float()}, ConfigError, "the type float32"),
    "labels in a list": ({"labels": LABELS.tolist()}, ConfigError, "must be a tensor, but is a list"),
    "labels in an array": ({"labels": np.zeros((2, 3), np.int64)}, ConfigError, "but is a ndarray"),
    "mask of other tokens": (
        {"labels": None, "decoder_input_ids": torch.ones(2, 3).long(), "decoder_attention_mask": torch.ones(2, 5)},
        ConfigError,
        r"each of the 3 tokens so far, but has the shape \[2, 5\]",
    ),
    "no states": ({"encoder_outputs": ()}, ConfigError, "must begin with the `last_hidden_state`"),
    "other states": ({"encoder_outputs": {"hidden": 1}}, ConfigError, "must begin with the `last_hidden_state`"),
    "states of another width": ({"encoder_outputs": (torch.zeros(2, 5, 7),)}, ConfigError, r"frames, 32\], but has"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(build: Build, name: str) -> None:
    changes, error, words = MISTAKES[name]
    with pytest.raises(error, match=words) as caught:
        build()(**{"inputs": AUDIO, "labels": LABELS, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_whole_number(build: Build, kind: torch.dtype) -> None:
    model, labels = build(), LABELS.clamp(min=0)
    assert torch.equal(model(AUDIO, labels=labels.to(kind)).loss, model(AUDIO, labels=labels).loss)


@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.float32])
def test_masks_of_any_kind(build: Build, kind: torch.dtype) -> None:
    model, mask = build(), (torch.arange(400) < torch.tensor([[400], [200]]))
    expected = model(AUDIO, attention_mask=mask.long(), labels=LABELS).loss
    assert torch.equal(model(AUDIO, attention_mask=mask.to(kind), labels=LABELS).loss, expected)
