"""Tokenizers from values in place of files (`BertTokenizer(vocab={…})`), as `transformers` 5 builds them."""

from pathlib import Path
from typing import Any

import pytest
import transformers

import dragoman
from dragoman.errors import TokenizerError

TEXTS = ["hello hello", "Hello, worlds", "he  said   hello", "ll"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", ",", "he", "said"]
LETTERS = ["h", "e", "l", "o", "Ġ", "w", "H", "r", "d", "s", ",", "a", "i", "he", "ll"]
MERGES = [("h", "e"), ("l", "l")]
GPT2 = {token: index for index, token in enumerate(["<|endoftext|>", *LETTERS])}
BART = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS])}
VALUES: dict[str, dict[str, Any]] = {
    "BertTokenizer": {"vocab": {token: index for index, token in enumerate(WORDS)}},
    "BertTokenizerFast": {"vocab": {token: index for index, token in enumerate(WORDS)}},
    "ElectraTokenizer": {"vocab": {token: index for index, token in enumerate(WORDS)}, "do_lower_case": False},
    "GPT2Tokenizer": {"vocab": GPT2, "merges": MERGES},
    "BartTokenizer": {"vocab": BART, "merges": MERGES},
    "RobertaTokenizer": {"vocab": BART, "merges": MERGES, "add_prefix_space": True},
}


@pytest.mark.parametrize("name", VALUES)
def test_the_same_ids_and_texts(name: str, tmp_path: Path) -> None:
    ours, theirs = (getattr(library, name)(**VALUES[name]) for library in (dragoman, transformers))
    ids = [theirs(text)["input_ids"] for text in TEXTS]
    assert [ours(text)["input_ids"] for text in TEXTS] == ids
    assert ours.batch_decode(ids, skip_special_tokens=True) == theirs.batch_decode(ids, skip_special_tokens=True)
    assert ours.get_vocab() == theirs.get_vocab()
    ours.save_pretrained(tmp_path)
    again = dragoman.AutoTokenizer.from_pretrained(tmp_path)
    assert [again(text)["input_ids"] for text in TEXTS] == ids


def test_merges_as_lines_and_letters_of_ctc() -> None:
    lines = [" ".join(pair) for pair in MERGES]
    pairs = dragoman.GPT2Tokenizer(GPT2, MERGES)
    assert dragoman.GPT2Tokenizer(GPT2, lines)(TEXTS)["input_ids"] == pairs(TEXTS)["input_ids"]
    letters = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6}
    assert dragoman.Wav2Vec2CTCTokenizer(letters)("AB A")["input_ids"] == [5, 6, 4, 5]


def test_what_is_not_taken() -> None:
    with pytest.raises(TokenizerError, match=r"must be given as a path, but is a list.*Values are taken in place of"):
        dragoman.T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0)])
    with pytest.raises(TokenizerError, match="the numbers from 0 up, each for one token"):
        dragoman.BertTokenizer(vocab={"[UNK]": 0, "a": 2})
    with pytest.raises(TokenizerError, match="must map each token to a different number"):
        dragoman.GPT2Tokenizer(vocab={"a": "x"}, merges=[])
    with pytest.raises(dragoman.ModelNotFoundError):
        dragoman.BertTokenizer(vocab="no/such/vocab.txt")
