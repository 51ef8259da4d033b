"""Exported models: wav2vec2 + BERT with a projection, and a Whisper."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config
from dragoman.torch.export.folder import export


def built(encoder: str, decoder: str, **fields: object) -> SpeechEncoderDecoderModel:
    """Return a model with random weights large enough that its transcripts depend on the speech."""
    torch.manual_seed(0)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder, **({} if encoder == "whisper" else {"hidden_size": 32, "initializer_range": 0.2})),
        decoder=tiny_config(decoder),
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        **fields,
    )
    model = SpeechEncoderDecoderModel(config=config).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


@pytest.fixture(scope="session")
def build() -> Callable[..., SpeechEncoderDecoderModel]:
    return built


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bert"
    export(built("wav2vec2", "bert"), folder)
    return folder


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "whisper"
    export(built("whisper", "whisper"), folder)
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "llama"
    export(built("wav2vec2", "llama", fusion="prefix"), folder)
    return folder
