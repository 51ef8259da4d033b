"""Loading in both backends."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.jax.backend import BACKEND as JAX
from dragoman.model.backend import Backend
from dragoman.testing import tiny_config
from dragoman.torch.backend import BACKEND as TORCH
from dragoman.torch.backend import own_tensors


@pytest.mark.parametrize(
    ("backend", "cls"), [(TORCH, SpeechEncoderDecoderModel), (JAX, FlaxSpeechEncoderDecoderModel)], ids=["torch", "jax"]
)
def test_file_with_our_own_names(backend: Backend, cls: Any, tmp_path: Path) -> None:
    """Older releases gave our names in the `state_dict`, which the trainers of `transformers` write."""
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bart"))
    saved = SpeechEncoderDecoderModel(config=config)
    saved.save_pretrained(tmp_path)
    save_file(own_tensors(saved), tmp_path / "model.safetensors")

    model = cls.from_pretrained(tmp_path)

    parts = {"encoder": model.encoder, "decoder": model.decoder, "bridge": model.bridge}
    found = {f"{part}.{name}": t for part, module in parts.items() for name, t in backend.tensors(module).items()}
    expected = {name: tensor.numpy() for name, tensor in own_tensors(saved).items()}
    assert found.keys() == expected.keys() == set(model.load_report.loaded)
    assert all(np.array_equal(np.asarray(backend.array(found[name])), array) for name, array in expected.items())
    assert not model.load_report.dropped


def test_dtype_names_are_equivalent() -> None:
    assert TORCH.dtype("torch.bfloat16") is TORCH.dtype("bfloat16") is torch.bfloat16
    assert str(JAX.dtype("torch.bfloat16")) == str(JAX.dtype("bfloat16")) == "bfloat16"
    assert TORCH.dtype(None) is JAX.dtype(None) is None
