"""Tokenizers against recorded results of `transformers` 4.40, whose classes 5 changed (record_tokenizers.py)."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from dragoman import AutoTokenizer
from dragoman.errors import TokenizerError

GOLDEN = Path(__file__).parents[1] / "golden/tokenizers"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(params=EXPECTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizers(name: str, tmp_path: Path) -> list[Any]:
    """Read from their files, and from those we saved."""
    ours = AutoTokenizer.from_pretrained(GOLDEN / name)
    ours.save_pretrained(tmp_path)
    return [ours, AutoTokenizer.from_pretrained(tmp_path)]


def test_ids(name: str, tokenizers: list[Any]) -> None:
    for tokenizer in tokenizers:
        assert tokenizer.tokenizer_class == name
        for text in EXPECTED[name]["texts"]:
            assert tokenizer(text["text"])["input_ids"] == text["ids"], text["text"]
            assert tokenizer(text_target=text["text"])["input_ids"] == text["target"], text["text"]
            assert tokenizer(text["text"], text_target=text["text"])["labels"] == text["target"]


def test_decoding(name: str, tokenizers: list[Any]) -> None:
    unknown = tokenizers[0].unk_token
    for tokenizer in tokenizers:
        for row in EXPECTED[name]["texts"]:
            if tokenizer.unk_token_id not in row["ids"]:
                assert tokenizer.decode(row["ids"], skip_special_tokens=True).strip() == row["back"].strip()
        for row in EXPECTED[name]["back"]:
            if unknown not in row["text"]:
                assert tokenizer.decode(row["ids"], skip_special_tokens=True).strip() == row["text"].strip()


def test_special_tokens(name: str, tokenizers: list[Any]) -> None:
    for tokenizer in tokenizers:
        assert len(tokenizer) == EXPECTED[name]["size"]
        roles = EXPECTED[name]["roles"]
        assert {role: tokenizer.special_tokens_map.get(role) for role in roles} == roles


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        ("camembert", "CamembertTokenizer"),
        ("xglm", "XGLMTokenizer"),
        ("pegasus", "PegasusTokenizer"),
        ("bert-generation", "BertGenerationTokenizer"),
        ("marian", "MarianTokenizer"),
        ("blenderbot", "BlenderbotTokenizer"),
        ("blenderbot-small", "BlenderbotSmallTokenizer"),
    ],
)
def test_tokenizer_class_follows_from_the_decoder(tmp_path: Path, model_type: str, kind: str) -> None:
    for file in (GOLDEN / kind).iterdir():
        if file.name != "tokenizer_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"decoder": {"model_type": model_type}}))
    assert AutoTokenizer.from_pretrained(tmp_path).tokenizer_class == kind


def test_separate_target_vocabulary(tmp_path: Path) -> None:
    """If a Marian model has a vocabulary per language, its decoder has that of the target."""
    folder = GOLDEN / "MarianTokenizer"
    for file in ("source.spm", "target.spm"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps({"</s>": 0, "<unk>": 1, "<pad>": 2}))
    (tmp_path / "target_vocab.json").write_text(json.dumps(vocab))
    settings = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = [row for row in EXPECTED["MarianTokenizer"]["texts"] if "renard" in row["text"]]
    assert [tokenizer(row["text"])["input_ids"] for row in rows] == [row["target"] for row in rows]
    assert [tokenizer(text_target=row["text"])["input_ids"] for row in rows] == [row["target"] for row in rows]
    assert tokenizer.decode(rows[0]["target"], skip_special_tokens=True) == rows[0]["text"]


def test_texts_of_the_target_are_checked_and_cut_as_any() -> None:
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "MarianTokenizer")
    words = next(row for row in EXPECTED["MarianTokenizer"]["texts"] if "renard" in row["text"])
    text, *whole, end = words["text"], *words["target"]
    assert tokenizer(text_target=text, max_length=4, truncation=True)["input_ids"] == [*whole[:3], end]
    tokenizer.truncation_side = "left"
    assert tokenizer(text_target=text, max_length=4, truncation=True)["input_ids"] == [*whole[-3:], end]
    assert tokenizer(text_target=text, max_length=1, truncation=True)["input_ids"] == [end]
    assert tokenizer(text_target=(one for one in [text]))["input_ids"] == [[*whole, end]]
    with pytest.raises(TokenizerError, match="less than the number of special tokens"):
        tokenizer(text_target=text, max_length=0, truncation=True)
    for wrong in (3, [text, None], {"text": text}, None):
        with pytest.raises(TokenizerError, match="needs strings"):
            tokenizer(text_target=wrong)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sound>"]})
    assert tokenizer(text_target=f"<sound>{text}")["input_ids"] == [len(tokenizer) - 1, *whole, end]
    assert pickle.loads(pickle.dumps(tokenizer))(text_target=text)["input_ids"] == [*whole, end]  # noqa: S301
