"""Two tiny checkpoints to join, and recordings whose words can be told by their pitch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from dragoman import SpeechEncoder, TextDecoder, Wav2Vec2FeatureExtractor
from dragoman.testing import tiny_config

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
RATE = 16_000


def write_text_model(folder: Path, **fields: object) -> Path:
    config = tiny_config("bert", is_decoder=True, add_cross_attention=False, **fields)
    TextDecoder(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    SpeechEncoder(tiny_config("wav2vec2", conv_stride=(5, 8, 8))).save_pretrained(folder / "speech")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "speech")
    return folder / "speech", write_text_model(folder / "text")


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 recordings of two to five letters, a tone of a tenth of a second for each."""
    folder = tmp_path_factory.mktemp("data")
    random, rows = np.random.default_rng(0), []
    for number in range(32):
        word = "".join(random.choice(list("abcdefghij"), size=random.integers(2, 6)))
        time = np.arange(1200) / RATE
        tones = [np.pad(0.3 * np.sin(2 * np.pi * (150 + 60 * (ord(c) - 97)) * time), (0, 400)) for c in word]
        wave = np.concatenate(tones) + 0.003 * random.standard_normal(1600 * len(word))
        soundfile.write(folder / f"{number}.wav", wave.astype(np.float32), RATE)
        rows.append({"id": str(number), "audio": f"{number}.wav", "text": word})
    path = folder / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.fixture
def config(checkpoints: tuple[Path, Path], manifest: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of a few seconds with everything random in it: dropout, masks, speeds, noise, two batches a step."""
    encoder, decoder = map(str, checkpoints)
    return {
        "model": {"encoder": encoder, "decoder": decoder},
        "data": {
            "train": str(manifest),
            "valid": str(manifest),
            "seconds_per_batch": 2.0,
            "num_buckets": 3,
            "speed_perturbation": [0.9, 1.0, 1.1],
            "noise_probability": 0.5,
        },
        "training": {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 9,
            "gradient_accumulation_steps": 2,
            "save_steps": 2,
            "eval_steps": 3,
            "learning_rate": 3e-3,
            "warmup_steps": 2,
        },
        "evaluation": {"max_eval_samples": 8, "generation_max_length": 8},
    }
