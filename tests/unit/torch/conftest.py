"""Tiny models with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

Build = Callable[..., SpeechEncoderDecoderModel]


@pytest.fixture
def build() -> Build:
    """Build a model of two tiny families in evaluation mode: `build("hubert", "gpt2")`."""

    def build(encoder: str = "wav2vec2", decoder: str = "bart", **joint: Any) -> SpeechEncoderDecoderModel:
        torch.manual_seed(0)
        config = SpeechEncoderDecoderConfig(
            encoder=tiny_config(encoder),
            decoder=tiny_config(decoder),
            **{"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, **joint},
        )
        model = SpeechEncoderDecoderModel(config=config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter)
                if parameter.ndim == 1:
                    parameter.add_(0.1 * noise)
                else:
                    parameter.copy_(noise * (parameter.shape[0] / parameter.numel()) ** 0.5)
        return model

    return build
