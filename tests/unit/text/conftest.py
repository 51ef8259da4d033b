"""Folders of tiny tokenizers in the Hugging Face layout."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import pre_tokenizers

BERT = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "quick",
    "fox",
    "##es",
    "it",
    "'",
    "s",
    ".",
    "مرحبا",
    "é",
    "e",
]
CTC = ["<pad>", "<s>", "</s>", "<unk>", "|", *"HELOWRDÉ"]


def write(folder: Path, **files: Any) -> Path:
    """Write files into a folder: `vocab_txt` is vocab.txt; what is no text or bytes becomes JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        content = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path = folder / f"{stem.replace('__', '.')}.{ending}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def byte_vocab(*more: str) -> dict[str, int]:
    return {
        token: i for i, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġt", "he", "Ġthe", *more])
    }


MERGES = "#version: 0.2\nĠ t\nh e\nĠt he\n"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder, see `write`."""
    return lambda name="folder", **files: write(tmp_path / name, **files)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(
        tmp_path / "bert", vocab_txt="\n".join(BERT) + "\n", tokenizer_config_json={"tokenizer_class": "BertTokenizer"}
    )


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    return write(tmp_path / "gpt2", vocab_json=byte_vocab("<|endoftext|>"), merges_txt=MERGES)


@pytest.fixture
def bart(tmp_path: Path) -> Path:
    vocab = byte_vocab("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return write(tmp_path / "bart", vocab_json=vocab, merges_txt=MERGES, config_json={"model_type": "bart"})


@pytest.fixture
def ctc(tmp_path: Path) -> Path:
    return write(
        tmp_path / "ctc", vocab_json={token: i for i, token in enumerate(CTC)}, config_json={"model_type": "hubert"}
    )


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    vocab = byte_vocab("<|endoftext|>")
    prompt = [
        "startoftranscript",
        "en",
        "ar",
        "translate",
        "transcribe",
        "startoflm",
        "startofprev",
        "nospeech",
        "notimestamps",
    ]
    added = {f"<|{name}|>": len(vocab) + i for i, name in enumerate(prompt)}
    config = {"tokenizer_class": "WhisperTokenizer", "additional_special_tokens": list(added)}
    return write(
        tmp_path / "whisper", vocab_json=vocab, merges_txt=MERGES, added_tokens_json=added, tokenizer_config_json=config
    )


@pytest.fixture(scope="session")
def train() -> Callable[..., bytes]:
    """Trains a SentencePiece model."""
    return train_spm


@pytest.fixture(scope="session")
def spm() -> bytes:
    """A SentencePiece model with fairseq's first ids."""
    return train_spm()


def train_spm(**options: object) -> bytes:
    model = io.BytesIO()
    lines = ["hello world the quick brown fox", "مرحبا بالعالم هذا اختبار", "你好世界 这是测试"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        **{"vocab_size": 80, "hard_vocab_limit": False, "minloglevel": 2, **options},
    )
    return model.getvalue()


@pytest.fixture
def mbart(tmp_path: Path, spm: bytes) -> Path:
    config = {"tokenizer_class": "MBart50Tokenizer", "src_lang": "en_XX", "tgt_lang": "de_DE"}
    return write(tmp_path / "mbart", sentencepiece__bpe_model=spm, tokenizer_config_json=config)
