"""Tekken tokenizers: ids of tokens by their ranks, special tokens before them, and files that are none."""

import itertools
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import regex

from dragoman import AutoTokenizer, TokenizerError

PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MERGED = (b"la", b"an", b"ng", b"lan", b"lang", b" l", b" lang", "é".encode(), b"it", b" it")
RANKS = {piece: rank for rank, piece in enumerate([*(bytes([i]) for i in range(256)), *MERGED])}
SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[BEGIN_AUDIO]", "[TRANSCRIBE]")
COUNT = 10


def content(**other: Any) -> dict[str, Any]:
    vocab = [{"rank": rank, "token_bytes": b64encode(piece).decode()} for piece, rank in RANKS.items()]
    config = {
        "pattern": PATTERN,
        "default_vocab_size": len(RANKS) + COUNT,
        "default_num_special_tokens": COUNT,
        "version": "v7",
    }
    special = [{"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(SPECIAL)]
    # tokens beyond the vocabulary size are in files, and in no model
    beyond = {"rank": len(RANKS), "token_bytes": b64encode(b"lat").decode()}
    return {"config": config, "vocab": [*vocab, beyond], "special_tokens": special, **other}


def by_ranks(text: str) -> list[int]:
    """Join the neighbours that make the token of the lowest rank, until none do."""
    ids = []
    for word in regex.findall(PATTERN, text):
        parts = [bytes([byte]) for byte in word.encode()]
        while pairs := [RANKS[a + b] for a, b in itertools.pairwise(parts) if a + b in RANKS]:
            first = next(i for i in range(len(parts)) if RANKS.get(b"".join(parts[i : i + 2])) == min(pairs))
            parts[first : first + 2] = [b"".join(parts[first : first + 2])]
        ids += [COUNT + RANKS[part] for part in parts]
    return ids


def test_ids_and_texts(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(content()))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("lang:en", "a language, it latin", "été 12 \n\n x", "مرحبا", ""):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == by_ranks(text)
        assert tokenizer.decode(ids) == text
    assert tokenizer("<s>[INST][BEGIN_AUDIO]", add_special_tokens=False)["input_ids"] == [1, 3, 5]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.convert_ids_to_tokens(9) == "<SPECIAL_9>"
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again("[INST] it's lang")["input_ids"] == tokenizer("[INST] it's lang")["input_ids"]


@pytest.mark.parametrize("other", [{"special_tokens": None}, {"config": {}}, {"vocab": [{"token_bytes": "?"}]}])
def test_other_files_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(content(**other)))
    with pytest.raises(TokenizerError, match=r"put a tokenizer\.json next to it"):
        AutoTokenizer.from_pretrained(tmp_path)
