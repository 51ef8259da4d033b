"""The number types that transcription computes in: near float32, and refused where they cannot be had."""

import numpy as np
import pytest

from dragoman.errors import ConfigError
from dragoman.testing.tolerances import TOLERANCES
from dragoman.transcriber import Transcriber

BACKENDS = ["torch", "jax"]


def states(transcriber: Transcriber, sample: np.ndarray) -> np.ndarray:
    encoded = transcriber._engine.encode([sample[:32_000], sample[32_000:48_000]]).last_hidden_state
    return np.asarray(encoded[0].float() if hasattr(encoded, "float") else encoded[0].astype("float32"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["bfloat16", "int8", "int8_float32"])
def test_near_float32(backend, name, tiny_checkpoint, sample):
    if backend == "jax" and name.startswith("int8"):
        with pytest.raises(ConfigError, match=r"needs PyTorch \(`backend` torch\) on an x86 CPU"):
            Transcriber(tiny_checkpoint, device="cpu", backend=backend, compute_type=name)
        return
    plain = Transcriber(tiny_checkpoint, device="cpu", backend=backend)
    fast = Transcriber(tiny_checkpoint, device="cpu", backend=backend, compute_type=name)
    expected, found = (states(one, sample) for one in (plain, fast))
    distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < distance < TOLERANCES[name.split("_")[0]]
    options = {"chunk_length_s": 2, "temperature": 0, "no_speech_threshold": None}
    one, many = (fast.transcribe(sample[:80_000], batch_size=size, **options) for size in (1, 4))
    assert len(many.segments) > 1
    assert [segment.tokens for segment in one.segments] == [segment.tokens for segment in many.segments]


@pytest.mark.parametrize("backend", BACKENDS)
def test_refusals(backend, tiny_checkpoint):
    for name, says in (
        ("float16", "`compute_type` float16 needs a GPU"),
        ("bfloat", "`compute_type` must be default, auto, .* but is 'bfloat'"),
    ):
        with pytest.raises(ConfigError, match=says):
            Transcriber(tiny_checkpoint, device="cpu", backend=backend, compute_type=name)
    loaded = Transcriber(tiny_checkpoint, device="cpu", backend=backend)
    with pytest.raises(ConfigError, match="cannot be set for a model that is loaded"):
        Transcriber(loaded.model, loaded.processor, compute_type="bfloat16")
