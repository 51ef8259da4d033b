"""The same tiny model in both libraries, audio and labels, for code that people wrote around these models."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import dragoman
from dragoman.testing import tiny_config
from dragoman.testing.tolerances import TOLERANCES


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """Yield each library with its model: `for library, model in pair("wav2vec2", "bart")`."""

    def build(encoder: str = "wav2vec2", decoder: str = "bart", **fields: Any) -> Iterator[tuple[Any, Any]]:
        torch.manual_seed(0)
        flags = {"is_decoder": True, "add_cross_attention": True}
        speech, text = (
            transformers.AutoConfig.for_model(**json.loads(config.to_json_string()))
            for config in (tiny_config(encoder, **{"layerdrop": 0.0, **fields}), tiny_config(decoder, **flags))
        )
        config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(speech, text)
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 3, 1, 2
        theirs = transformers.SpeechEncoderDecoderModel(config).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
        own = theirs.generation_config
        own.decoder_start_token_id, own.pad_token_id, own.eos_token_id = 3, 1, 2
        theirs.save_pretrained(tmp_path / "model")
        torch.manual_seed(2)
        yield transformers, theirs
        torch.manual_seed(2)
        yield dragoman, dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "model")

    return build


@pytest.fixture
def speech() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"input_values": torch.randn(2, 1600), "attention_mask": torch.ones(2, 1600, dtype=torch.long)}


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


@pytest.fixture
def same() -> Callable[[list[Any]], None]:
    """Check that what both libraries gave is the same: tensors within the tolerance, all else equal."""

    def check(found: list[Any]) -> None:
        theirs, ours = found
        if isinstance(theirs, Tensor):
            assert ours.shape == theirs.shape
            limit = TOLERANCES["logits"] * max(1.0, float(theirs.detach().abs().max()))
            assert (ours - theirs).detach().abs().max() <= limit
        elif isinstance(theirs, list | tuple):
            assert len(ours) == len(theirs)
            for one, other in zip(theirs, ours, strict=True):
                check([one, other])
        else:
            assert ours == theirs

    return check
