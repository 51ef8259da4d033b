"""All tokenizers: the call, padding, decoding, special tokens, saving, pickling."""

import copy
import json
import pickle
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, models, normalizers
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import DragomanError, TokenizerError
from dragoman.generation.result import GenerateEncoderDecoderOutput
from dragoman.jax.outputs import FlaxGenerateOutput
from dragoman.processing.from_files import TOKENIZER_OF
from dragoman.text import vocab_files
from dragoman.text.rust_errors import rust_errors
from dragoman.text.tokenizer import Tokenizer

load_tokenizer = partial(vocab_files.load_tokenizer, class_of=TOKENIZER_OF)

KINDS = ["bert", "gpt2", "bart", "ctc", "whisper", "mbart"]


@pytest.fixture(params=KINDS)
def any_folder(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def test_one_text_gives_flat_lists_and_several_give_rows(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    assert tokenizer("the fox").data == {"input_ids": [2, 5, 7, 3], "attention_mask": [1, 1, 1, 1]}
    assert tokenizer(["the fox", ""]).input_ids == [[2, 5, 7, 3], [2, 3]]
    assert tokenizer([]).input_ids == []
    assert tokenizer("the fox", return_attention_mask=False).data == {"input_ids": [2, 5, 7, 3]}
    assert tokenizer.encode("the fox", add_special_tokens=False) == [5, 7]
    assert tokenizer.tokenize("The foxes!") == ["the", "fox", "##es", "[UNK]"]


def test_tensors_have_a_batch_dimension(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    batch = tokenizer("the fox", return_tensors="pt")
    assert batch.input_ids.dtype == torch.int64
    assert batch.input_ids.tolist() == [[2, 5, 7, 3]]
    padded = tokenizer(["the fox", ""], padding=True, return_tensors="np")
    assert padded.input_ids.tolist() == [[2, 5, 7, 3], [2, 3, 0, 0]]
    assert padded.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert tokenizer([], return_tensors="np").input_ids.shape == (0, 0)


def test_rows_of_different_lengths_are_not_an_array(bert: Path) -> None:
    with pytest.raises(TokenizerError, match=r"2 to 4 tokens do not fit into one array\. Use `padding=True`"):
        load_tokenizer(bert)(["the fox", ""], return_tensors="np")


def test_padding_side(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    assert tokenizer(["fox", ""], padding=True, padding_side="left").input_ids == [[2, 7, 3], [0, 2, 3]]
    assert tokenizer("fox", padding="max_length", max_length=5).input_ids == [2, 7, 3, 0, 0]
    assert tokenizer(["fox", ""], padding=True, pad_to_multiple_of=4).attention_mask == [[1, 1, 1, 0], [1, 1, 0, 0]]
    tokenizer.padding_side = "left"
    assert tokenizer("fox", padding="max_length", max_length=4).input_ids == [0, 2, 7, 3]
    with pytest.raises(TokenizerError, match='must be True, False, "longest" or "max_length", but is \'shortest\''):
        tokenizer("fox", padding="shortest")
    with pytest.raises(TokenizerError, match='`padding_side` must be "left" or "right", but is \'top\''):
        tokenizer("fox", padding=True, padding_side="top")
    for length in (-1, "5", True, 2.5):
        with pytest.raises(TokenizerError, match="`max_length` must be a number of tokens, 0 or more, but is"):
            tokenizer("fox", padding="max_length", max_length=length)


def test_truncation_keeps_the_special_tokens(bert: Path) -> None:
    tokenizer = load_tokenizer(bert, options={"model_max_length": 4})
    assert tokenizer("the quick fox", truncation=True).input_ids == [2, 5, 6, 3]
    assert tokenizer("the quick fox", truncation=False).input_ids == [2, 5, 6, 7, 3]
    assert tokenizer("the quick fox", max_length=3).input_ids == [2, 5, 3]
    tokenizer.truncation_side = "left"
    assert tokenizer("the quick fox", truncation=True).input_ids == [2, 6, 7, 3]
    with pytest.raises(TokenizerError, match="less than the number of special tokens"):
        tokenizer("the fox", max_length=1, truncation=True)


@pytest.mark.parametrize("wrong", [None, 3, ["the", 3], [["the"]], b"the", {"text": "the"}])
def test_only_texts_are_encoded(bert: Path, wrong: object) -> None:
    with pytest.raises(TokenizerError, match="needs strings, but got a"):
        load_tokenizer(bert)(wrong)  # type: ignore[arg-type]


def test_surrogates_are_refused(bert: Path) -> None:
    with pytest.raises(TokenizerError, match="cannot be encoded"):
        load_tokenizer(bert)("half of an emoji: \ud83d")


def test_ids_come_as_lists_arrays_and_tensors(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    row = [2, 5, 7, 3]
    for one in (
        row,
        tuple(row),
        np.array(row),
        torch.tensor(row),
        [torch.tensor(i) for i in row],
        [np.int64(i) for i in row],
    ):
        assert tokenizer.decode(one, skip_special_tokens=True) == "the fox"
        assert tokenizer.batch_decode(one, skip_special_tokens=True) == ["the fox"]
    for two in (
        [row, [7]],
        [np.array(row), np.array([7])],
        [torch.tensor(row), torch.tensor([7])],
        {"input_ids": [row, [7]]},
        GenerateEncoderDecoderOutput(sequences=torch.tensor([row, [0, 0, 0, 7]])),
        FlaxGenerateOutput(sequences=np.array([row, [0, 0, 0, 7]])),
    ):
        assert tokenizer.batch_decode(two, skip_special_tokens=True) == ["the fox", "fox"]
        assert tokenizer.decode(two, skip_special_tokens=True) == ["the fox", "fox"]
    assert tokenizer.batch_decode(torch.tensor([row]), skip_special_tokens=True) == ["the fox"]
    assert tokenizer.decode(7) == "fox"
    assert tokenizer.decode([]) == ""
    assert tokenizer.batch_decode([]) == [""]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5, -100], "-100 marks ignored labels: replace it by `pad_token_id`"),
        ([0.5], "whole numbers, but are float64. Were logits passed"),
        (torch.zeros(2, 3, 4, dtype=torch.long), "one dimension, or two for a batch"),
        ([2**40], "There is no token"),
        (["the"], "whole numbers"),
        ({"labels": [5]}, "must have `input_ids` or `sequences`, but has labels"),
    ],
)
def test_invalid_ids_are_refused(bert: Path, ids: object, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(bert).decode(ids)


def test_spaces_are_cleaned_up_on_request_and_never_in_bpe_by_default(bert: Path, gpt2: Path) -> None:
    words = Tokenizer(RustTokenizer(models.WordLevel({"it": 0, "'s": 1, ".": 2, "[UNK]": 3}, unk_token="[UNK]")))
    assert words.decode([0, 1, 2]) == "it 's ."
    assert words.decode([0, 1, 2], clean_up_tokenization_spaces=True) == "it's."
    words.clean_up_tokenization_spaces = True
    assert words.decode([0, 1, 2]) == "it's."
    bytewise = load_tokenizer(gpt2, options={"clean_up_tokenization_spaces": True})
    ids = bytewise("the ' s .").input_ids
    assert bytewise.decode(ids) == "the ' s ."
    assert bytewise.decode(ids, clean_up_tokenization_spaces=True) == "the's."


def test_special_tokens_have_names_and_ids(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    assert (tokenizer.cls_token, tokenizer.cls_token_id) == ("[CLS]", 2)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == (None, None)
    assert tokenizer.all_special_ids == [1, 3, 0, 2, 4]
    tokenizer.bos_token = "[CLS]"
    assert tokenizer.bos_token_id == 2
    tokenizer.bos_token_id = 5
    assert tokenizer.bos_token == "the"
    assert tokenizer.decode([5, 7], skip_special_tokens=True) == "fox"
    tokenizer.bos_token = None
    assert tokenizer.bos_token_id is None


def test_a_misspelt_attribute_suggests_cls_token_id(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    with pytest.raises(AttributeError, match=r'no attribute .cls_token_.\. Did you mean "cls_token_id"\?'):
        _ = tokenizer.cls_token_
    with pytest.raises(AttributeError, match=r'Did you mean "batch_decode"\?'):
        _ = tokenizer.bacth_decode


def test_a_role_needs_a_token_that_exists(gpt2: Path) -> None:
    tokenizer = load_tokenizer(gpt2)
    with pytest.raises(TokenizerError, match=r"Padding needs a pad token, and this tokenizer has none. Choose one"):
        tokenizer(["the", ""], padding=True)
    tokenizer.unk_token = None
    with pytest.raises(TokenizerError, match=r"add_special_tokens\(\{\"pad_token\": '\[PAD\]'\}\)"):
        tokenizer.pad_token = "[PAD]"
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer(["the", ""], padding=True).input_ids[1] == [tokenizer.eos_token_id] * 2


def test_added_tokens_get_new_ids_and_are_never_split(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    size = len(tokenizer)
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<noise>"], "bos_token": "<s>"}) == 2
    assert tokenizer.add_tokens(["фокс", "the"]) == 1
    assert len(tokenizer) == size + 3
    assert tokenizer.vocab_size == size
    assert tokenizer.convert_tokens_to_ids(["<s>", "<noise>", "фокс"]) == [size, size + 1, size + 2]
    ids = tokenizer("the <noise> фокс", add_special_tokens=False).input_ids
    assert ids == [5, size + 1, size + 2]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the фокс"
    with pytest.raises(
        TokenizerError, match=r'.pad_tokn. is not a role of a special token\. Did you mean "pad_token"\?'
    ):
        tokenizer.add_special_tokens({"pad_tokn": "<pad>"})


def test_flags_of_added_tokens_are_kept(bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.add_tokens([AddedToken("<tab>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.save_pretrained(tmp_path / "saved")
    for each in (tokenizer, load_tokenizer(tmp_path / "saved")):
        assert each.tokenize("the  <tab>  fox") == ["the", "<tab>", "fox"]


def test_ids_outside_the_vocabulary(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    with pytest.raises(TokenizerError, match="no token 999: the vocabulary has 16 tokens"):
        tokenizer.convert_ids_to_tokens(999)
    assert tokenizer.convert_tokens_to_ids("absent") == 1
    assert tokenizer.convert_ids_to_tokens([2, 5, 3], skip_special_tokens=True) == ["the"]
    assert tokenizer.decode([5, 999, 7]) == "the fox"  # a model may have more rows than the vocabulary


def test_encoded_texts_are_padded_later(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    rows = [tokenizer("the fox"), tokenizer("fox")]
    batch = tokenizer.pad(rows, return_tensors="pt")
    assert batch.input_ids.tolist() == [[2, 5, 7, 3], [2, 7, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert tokenizer.pad({"input_ids": [[5], [5, 7]]}).input_ids == [[5, 0], [5, 7]]
    assert tokenizer.pad({"input_ids": [5]}, padding="max_length", max_length=3).input_ids == [5, 0, 0]
    assert tokenizer.pad([]).input_ids == []
    with pytest.raises(TokenizerError, match="needs `input_ids`, but got only: labels"):
        tokenizer.pad([{"labels": [1]}])


def test_saved_files_are_equivalent(any_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(any_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [*tokenizer.extra_special_tokens, "<noise>"]})
    tokenizer.save_pretrained(tmp_path / "one")
    again = load_tokenizer(tmp_path / "one")
    again.save_pretrained(tmp_path / "two")
    assert type(again) is type(tokenizer)
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.extra_special_tokens == tokenizer.extra_special_tokens
    assert again.get_vocab() == tokenizer.get_vocab()
    for text in ("HELLO THE fox's <noise> tail", "مرحبا", ""):
        assert again(text).input_ids == tokenizer(text).input_ids
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert first == second


def test_a_failed_save_keeps_the_old_file(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.save_pretrained(tmp_path / "saved")
    before = {p.name: p.read_bytes() for p in (tmp_path / "saved").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    tokenizer.add_tokens(["new"])
    with pytest.raises(DragomanError, match="No space"):
        tokenizer.save_pretrained(tmp_path / "saved")
    assert {p.name: p.read_bytes() for p in (tmp_path / "saved").iterdir()} == before


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda tokenizer: pickle.loads(pickle.dumps(tokenizer)),  # noqa: S301
    ],
)
def test_copies_are_equivalent(any_folder: Path, duplicate: object) -> None:
    tokenizer = load_tokenizer(any_folder)
    tokenizer.add_tokens(["<noise>"])
    twin = duplicate(tokenizer)  # type: ignore[operator]
    for text in ("HELLO THE fox <noise>", "مرحبا"):
        assert twin(text).input_ids == tokenizer(text).input_ids
        assert twin.decode(twin(text).input_ids) == tokenizer.decode(tokenizer(text).input_ids)


def test_threads_share_a_tokenizer(mbart: Path) -> None:
    tokenizer = load_tokenizer(mbart)
    text = "hello world مرحبا"
    whole = tokenizer(text).input_ids
    wrong: list[object] = []

    def work(length: int) -> None:
        for _ in range(100):
            ids = tokenizer(text, max_length=length, truncation=True, padding="max_length").input_ids
            if ids != [*whole[: length - 1], whole[-1]]:
                wrong.append(ids)

    threads = [threading.Thread(target=work, args=(length,)) for length in (3, 4, 5, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_settings_are_checked(bert: Path) -> None:
    for settings, message in (
        ({"padding_side": "top"}, '`padding_side` must be "left" or "right"'),
        ({"model_max_length": -1}, "`model_max_length` must be a positive number, but is -1"),
        ({"model_max_length": "long"}, "`model_max_length` must be a positive number"),
        ({"pad_token": 3}, "`pad_token` must be a string or an object with `content`, but is 3"),
        ({"additional_special_tokens": "<x>"}, "must be a list of tokens"),
        ({"additional_special_tokens": [{"lstrip": True}]}, "must be a string or an object"),
    ):
        config = {"tokenizer_class": "BertTokenizer", **settings}
        (bert / "tokenizer_config.json").write_text(json.dumps(config))
        with pytest.raises(TokenizerError, match=message):
            load_tokenizer(bert)


def test_a_custom_backend(tmp_path: Path) -> None:
    words = RustTokenizer(models.WordLevel({"[UNK]": 0, "fox": 1}, unk_token="[UNK]"))
    tokenizer = Tokenizer(words, {"unk_token": "[UNK]", "pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == 2
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)(["fox", ""], padding=True).input_ids == [[1], [2]]


class Panics:
    """Fails as the Rust library does when it panics: with an exception that is no `Exception`."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise type("PanicException", (BaseException,), {})("index out of bounds")

        return fail


def test_panics_of_the_engine_are_errors() -> None:
    with (
        pytest.raises(TokenizerError, match=r"cannot be read: index out of bounds\. Again"),
        rust_errors("It cannot be read", "Again."),
    ):
        Panics().encode()
    with pytest.raises(KeyboardInterrupt), rust_errors("It", "Again."):
        raise KeyboardInterrupt


def test_replacements_that_multiply_a_text_are_refused(tmp_path: Path) -> None:
    backend = RustTokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa")] * 30)
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="1,073,741,824 times longer"):
        vocab_files.load_tokenizer(tmp_path)
