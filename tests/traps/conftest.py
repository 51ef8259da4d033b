"""Tiny models whose texts depend on the speech, for the tests of what goes wrong upstream."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import dragoman
from dragoman.testing import tiny_config

LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
Build = Callable[..., dragoman.SpeechEncoderDecoderModel]


def loud(module: torch.nn.Module, seed: int = 0) -> None:
    """Give a random module weights that matter, so that texts depend on the speech."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise * 1.5 * (parameter.shape[0] / parameter.numel()) ** 0.5)


@pytest.fixture
def build() -> Build:
    """Build a model of two tiny families; `encoder_…` and `decoder_…` are fields of the parts."""

    def build(encoder: str = "wav2vec2", decoder: str = "bert", **fields: Any) -> dragoman.SpeechEncoderDecoderModel:
        parts: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}}
        joint = dict(IDS)
        for name, value in fields.items():
            part, _, field = name.partition("_")
            if part in parts and name not in IDS:
                parts[part][field] = value
            else:
                joint[name] = value
        torch.manual_seed(0)
        model = dragoman.SpeechEncoderDecoderModel(
            config=dragoman.SpeechEncoderDecoderConfig(
                encoder=tiny_config(encoder, **parts["encoder"]),
                decoder=tiny_config(decoder, **parts["decoder"]),
                **{name: value for name, value in joint.items() if value is not None},
            )
        )
        loud(model)
        return model.eval()

    return build


@pytest.fixture
def speech() -> Callable[..., torch.Tensor]:
    """Return clips of unlike loudness and pitch, `[clips, samples]`."""

    def speech(clips: int = 1, samples: int = 1600, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        pitch = torch.rand(clips, 1, generator=generator)
        noise = torch.randn(clips, samples, generator=generator) * torch.rand(clips, 1, generator=generator)
        return noise + 2 * torch.sin(pitch * torch.arange(samples))

    return speech
