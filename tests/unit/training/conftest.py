"""Two tiny checkpoints to join: a speech encoder with its feature extractor, a text model with its tokenizer."""

import json
from pathlib import Path

import pytest
import torch

from dragoman import SpeechEncoder, TextDecoder, Wav2Vec2FeatureExtractor
from dragoman.testing import tiny_config

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


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
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(folder / "speech")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "speech")
    return folder / "speech", write_text_model(folder / "text")
