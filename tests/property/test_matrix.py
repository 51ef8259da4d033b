"""Every pair of an encoder and a decoder family is built, trained for a step, saved, loaded, and generates.

In PyTorch; `tests/parity/test_jax.py` compares JAX with it for the same pairs. `docs/matrix.md`, written by
`tests/contract/matrix_table.py`, lists the pairs that are also compared with `transformers`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.spec import ConvFrontendSpec, MelFrontendSpec, PieceFrontendSpec
from dragoman.testing import tiny_config
from dragoman.testing.configs import DECODERS, ENCODERS

IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
CLIPS, TOKENS = 2, 6


def config_of(encoder: str, decoder: str, fusion: str | None) -> SpeechEncoderDecoderConfig:
    parts = {"encoder": tiny_config(encoder), "decoder": tiny_config(decoder)}
    return SpeechEncoderDecoderConfig(**parts, fusion=fusion, **IDS)


def batch_of(config: SpeechEncoderDecoderConfig) -> dict[str, np.ndarray]:
    """Noise as input of the encoder, and labels."""
    random = np.random.default_rng(0)
    frontend = config.encoder.speech_spec().frontend
    if isinstance(frontend, ConvFrontendSpec):
        shape: tuple[int, ...] = (CLIPS, 900)
    elif isinstance(frontend, PieceFrontendSpec):
        shape = CLIPS, frontend.num_mels, 3 * frontend.piece
    elif isinstance(frontend, MelFrontendSpec):
        shape = CLIPS, frontend.num_mels, frontend.window or 2 * config.encoder.max_source_positions
    else:
        shape = CLIPS, 40, frontend.num_features
    inputs = random.standard_normal(shape).astype(np.float32)
    return {frontend.input_name: inputs, "labels": random.integers(4, 90, (CLIPS, TOKENS))}


def in_torch(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def torch_pair(config: SpeechEncoderDecoderConfig, folder: Path) -> None:
    """Build, train a step, save, load, generate; each must have an effect."""
    torch.manual_seed(0)
    model = SpeechEncoderDecoderModel(config=config).eval()  # without dropout, so that the loss must fall
    batch = in_torch(batch_of(config))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    before = model(**batch).loss
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = model(**batch)
        assert after.loss < before
        model.save_pretrained(folder)
        loaded = SpeechEncoderDecoderModel.from_pretrained(folder)
        assert torch.equal(loaded(**batch).logits, after.logits)
        inputs = {name: array for name, array in batch.items() if name != "labels"}
        texts = loaded.generate(**inputs, max_new_tokens=4, num_beams=2)
    assert texts.shape[0] == CLIPS
    assert texts.shape[1] > 1


@pytest.mark.parametrize(
    "encoder",
    [
        pytest.param(encoder, marks=pytest.mark.slow if encoder == "wav2vec2" else pytest.mark.nightly)
        for encoder in ENCODERS
    ],
)
def test_every_pair_in_torch(encoder: str, tmp_path: Path) -> None:
    failed = {}
    for decoder, fusion in DECODERS:
        try:
            torch_pair(config_of(encoder, decoder, fusion), tmp_path / f"{decoder}-{fusion}")
        except Exception as error:
            failed[decoder, fusion] = repr(error)
    assert failed == {}
