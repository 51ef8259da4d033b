"""Reading a tokenizer from a folder: its class, its settings, and invalid files."""

import json
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from dragoman.errors import ModelNotFoundError, TokenizerError
from dragoman.processing.from_files import TOKENIZER_OF
from dragoman.text import vocab_files
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.text.mbart import MBart50Tokenizer, MBartTokenizer
from dragoman.text.tokenizer import Tokenizer
from dragoman.text.whisper import WhisperTokenizer
from dragoman.text.words import Speech2Text2Tokenizer

load_tokenizer = partial(vocab_files.load_tokenizer, class_of=TOKENIZER_OF)

Make = Callable[..., Path]
S2T2 = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "he@@": 4, "ll@@": 5, "o": 6, "hello": 7, "a": 8, "l@@": 9}
S2T2_MERGES = "#version: 0.2\nh e 9\nl l\nhe ll\nhell o</w>\n"


def config(folder: Path, **fields: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


# ---- which class


@pytest.mark.parametrize("name", ["MBart50Tokenizer", "MBart50TokenizerFast", "mbart50"])
def test_old_and_new_class_names_are_known(make: Make, spm: bytes, name: str) -> None:
    folder = config(make(sentencepiece__bpe_model=spm), model_type="speech-encoder-decoder", tokenizer_class=name)
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, MBart50Tokenizer)
    assert tokenizer.tokenizer_class == "MBart50Tokenizer"


@pytest.mark.parametrize("name", ["Speech2Text2Tokenizer", "speech_to_text_2"])
def test_speech_to_text_2_is_known(make: Make, name: str) -> None:
    folder = config(make(vocab_json=S2T2, merges_txt=S2T2_MERGES), tokenizer_class=name)
    assert isinstance(load_tokenizer(folder), Speech2Text2Tokenizer)


def test_the_first_class_name_is_used(bert: Path) -> None:
    config(bert, tokenizer_class="GPT2Tokenizer", model_type="bart")
    assert load_tokenizer(bert).tokenizer_class == "BertTokenizer"  # tokenizer_config.json
    (bert / "tokenizer_config.json").unlink()
    with pytest.raises(
        ModelNotFoundError, match=r"no vocab\.json\. A GPT2Tokenizer needs tokenizer\.json, or vocab\.json"
    ):
        load_tokenizer(bert)  # config.json
    config(bert, model_type="bert")
    assert load_tokenizer(bert).tokenizer_class == "BertTokenizer"
    assert load_tokenizer(bert, tokenizer_type="distilbert").cls_token == "[CLS]"


def test_the_decoder_of_a_composite_comes_first(bart: Path, ctc: Path) -> None:
    parts = {"encoder": {"model_type": "wav2vec2"}, "decoder": {"model_type": "bart"}}
    config(bart, model_type="speech-encoder-decoder", **parts)
    assert load_tokenizer(bart)("the").input_ids[0] == 259  # <s>
    # The decoder's type is one that the files cannot be of: the encoder's is next.
    config(ctc, model_type="speech-encoder-decoder", **parts)
    assert isinstance(load_tokenizer(ctc), Wav2Vec2CTCTokenizer)


def test_mbart_50_is_recognised_by_its_vocabulary_size(make: Make, spm: bytes) -> None:
    folder = make(sentencepiece__bpe_model=spm)
    size = len(load_tokenizer(folder, tokenizer_type="mbart"))
    for vocab_size, kind in ((size, MBartTokenizer), (size + 27, MBart50Tokenizer)):
        config(folder, model_type="speech-encoder-decoder", decoder={"model_type": "mbart", "vocab_size": vocab_size})
        tokenizer = load_tokenizer(folder)
        assert type(tokenizer) is kind
        assert len(tokenizer) == vocab_size


def test_without_a_name_the_files_decide(
    bert: Path, gpt2: Path, bart: Path, ctc: Path, whisper: Path, make: Make
) -> None:
    for folder in (bert, whisper):
        (folder / "tokenizer_config.json").unlink()
    for folder in (bart, ctc):
        (folder / "config.json").unlink()
    assert load_tokenizer(bert).tokenizer_class == "BertTokenizer"
    assert load_tokenizer(gpt2).tokenizer_class == "GPT2Tokenizer"
    assert load_tokenizer(bart).tokenizer_class == "RobertaTokenizer"
    assert isinstance(load_tokenizer(ctc), Wav2Vec2CTCTokenizer)
    assert isinstance(load_tokenizer(whisper), WhisperTokenizer)
    assert isinstance(load_tokenizer(make("s2t2", vocab_json=S2T2, merges_txt=S2T2_MERGES)), Speech2Text2Tokenizer)


def test_a_tokenizer_json_needs_no_known_class(bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(bert)
    tokenizer.save_pretrained(tmp_path / "saved")
    fields = json.loads((tmp_path / "saved/tokenizer_config.json").read_text())
    (tmp_path / "saved/tokenizer_config.json").write_text(json.dumps(fields | {"tokenizer_class": "NovelTokenizer"}))
    novel = load_tokenizer(tmp_path / "saved")
    assert type(novel) is Tokenizer
    assert novel.tokenizer_class == "NovelTokenizer"
    assert novel("the fox").input_ids == tokenizer("the fox").input_ids
    (tmp_path / "saved/tokenizer.json").unlink()
    with pytest.raises(
        TokenizerError, match=r"'NovelTokenizer' without a tokenizer\.json; without one, only these classes"
    ):
        load_tokenizer(tmp_path / "saved")


def test_an_empty_folder_lists_the_files_to_add(tmp_path: Path, make: Make, spm: bytes) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no tokenizer\. Add one of: tokenizer\.json, vocab\.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"does not determine the ids.*`tokenizer_type='mbart50'`"):
        load_tokenizer(make(sentencepiece__bpe_model=spm))
    with pytest.raises(
        ModelNotFoundError, match=r"no merges\.txt\. A GPT2Tokenizer needs tokenizer\.json, or vocab\.json and"
    ):
        load_tokenizer(make("gpt2", vocab_json={"a": 0}), tokenizer_type="gpt2")


# ---- settings


def test_settings_of_word_pieces(make: Make) -> None:
    vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nÉtoile\netoile\nétoile\n你\n##好\n你好\n"
    folder = make(vocab_txt=vocab, tokenizer_config_json={"tokenizer_class": "BertTokenizer"})
    for options, text, tokens in (
        ({}, "Étoile", ["etoile"]),
        ({"do_lower_case": False}, "Étoile", ["Étoile"]),
        ({"strip_accents": False}, "Étoile", ["étoile"]),
        ({}, "你好", ["你", "[UNK]"]),
        ({"tokenize_chinese_chars": False}, "你好", ["你好"]),
    ):
        assert load_tokenizer(folder, options=options).tokenize(text) == tokens


def test_settings_change_what_tokenizer_json_says(bert: Path, gpt2: Path, tmp_path: Path) -> None:
    load_tokenizer(bert).save_pretrained(tmp_path / "bert")
    assert load_tokenizer(tmp_path / "bert").tokenize("Fox") == ["fox"]
    assert load_tokenizer(tmp_path / "bert", options={"do_lower_case": False}).tokenize("Fox") == ["[UNK]"]
    load_tokenizer(gpt2).save_pretrained(tmp_path / "gpt2")
    assert load_tokenizer(tmp_path / "gpt2", options={"add_prefix_space": True}).tokenize("the") == ["Ġthe"]


def test_windows_line_ends_and_odd_spaces_in_a_vocabulary(make: Make) -> None:
    folder = make(vocab_txt="[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n\u2028\r\n\x85\r\nfox\r\n")
    assert load_tokenizer(folder, options={"mask_token": None}).tokenize("fox") == ["fox"]
    assert load_tokenizer(folder).convert_tokens_to_ids("fox") == 6


def test_an_unknown_option_is_not_ignored(bert: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no option 'do_lowercase'\. Did you mean \"do_lower_case\"\?"):
        load_tokenizer(bert, options={"do_lowercase": False})


def test_special_tokens_that_only_the_class_knows_are_not_added(make: Make) -> None:
    # Adding them would give ids that the model has no rows for.
    tokenizer = load_tokenizer(
        make(
            vocab_json={"[UNK]": 0, "[PAD]": 1, "a": 2, "|": 3},
            special_tokens_map_json={"unk_token": "[UNK]", "pad_token": "[PAD]"},
        )
    )
    assert len(tokenizer) == 4
    assert tokenizer.bos_token is None
    assert tokenizer.special_tokens_map == {"unk_token": "[UNK]", "pad_token": "[PAD]"}


def test_special_tokens_that_files_name_are_added(make: Make, bert: Path) -> None:
    (bert / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<s>", "mask_token": {"content": "[MASK]", "lstrip": True, "normalized": False}})
    )
    tokenizer = load_tokenizer(bert)
    assert tokenizer.bos_token_id == 16
    assert tokenizer.tokenize("the   [MASK]") == ["the", "[MASK]"]


def test_old_and_new_files_list_added_tokens(gpt2: Path) -> None:
    size = len(load_tokenizer(gpt2))
    (gpt2 / "added_tokens.json").write_text(json.dumps({"<b>": size + 1, "<a>": size}))
    assert load_tokenizer(gpt2).convert_tokens_to_ids(["<a>", "<b>"]) == [size, size + 1]
    later = {str(size): {"content": "<c>", "special": True}}
    (gpt2 / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": later}))
    assert load_tokenizer(gpt2).convert_tokens_to_ids("<c>") == size


def test_added_tokens_with_impossible_ids_are_refused(gpt2: Path) -> None:
    (gpt2 / "added_tokens.json").write_text(json.dumps({"<a>": 5000}))
    with pytest.raises(
        TokenizerError, match=r"'<a>' the id 5000, but the next id of the vocabulary is 260\. One of the files"
    ):
        load_tokenizer(gpt2)


def test_bos_and_eos_on_request_of_the_settings(gpt2: Path, make: Make) -> None:
    plain = load_tokenizer(gpt2)("the").input_ids
    both = load_tokenizer(gpt2, options={"add_bos_token": True, "add_eos_token": True})("the").input_ids
    assert both == [259, *plain, 259]


def test_settings_of_wrong_types_are_named(bert: Path, tmp_path: Path) -> None:
    load_tokenizer(bert).save_pretrained(tmp_path / "saved")
    for folder in (bert, tmp_path / "saved"):
        with pytest.raises(TokenizerError, match="`do_lower_case` must be true or false, but is 'no'"):
            load_tokenizer(folder, options={"do_lower_case": "no"})


# ---- vocabularies


def test_speech_to_text_2_words(make: Make, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make(vocab_json=S2T2, merges_txt=S2T2_MERGES), tokenizer_type="speech_to_text_2")
    assert tokenizer.tokenize("hello  a hell b") == ["hello", "a", "he@@", "l@@", "<unk>", "<unk>"]
    assert tokenizer.decode([4, 5, 6, 8, 2]) == "hello a </s>"
    assert tokenizer.decode([4, 5, 6, 8, 2], skip_special_tokens=True) == "hello a"
    tokenizer.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip


def test_speech_to_text_2_without_merges_only_decodes(make: Make) -> None:
    tokenizer = load_tokenizer(make(vocab_json=S2T2), tokenizer_type="speech_to_text_2")
    assert tokenizer.decode([4, 5, 6]) == "hello"
    with pytest.raises(TokenizerError, match=r"encoded: merges\.txt is missing: without it this tokenizer can decode"):
        tokenizer("hello")


def test_languages_of_mms(make: Make) -> None:
    folder = make(vocab_json={"eng": {"<pad>": 0, "|": 1, "a": 2}, "ara": {"<pad>": 0, "|": 1, "ا": 2}})
    folder = config(folder, model_type="wav2vec2")
    assert load_tokenizer(folder, options={"target_lang": "ara"}).decode([2, 0, 2]) == "اا"
    with pytest.raises(TokenizerError, match="no `target_lang` 'xyz', only: eng, ara"):
        load_tokenizer(folder, options={"target_lang": "xyz"})


def test_t5_and_llama_have_the_ids_of_sentencepiece(make: Make, train: Callable[..., bytes]) -> None:
    model = train(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer = load_tokenizer(make(spiece_model=model), tokenizer_type="t5", options={"extra_ids": 2})
    assert tokenizer("hello").input_ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.convert_ids_to_tokens(len(tokenizer) - 1) == "<extra_id_0>"
    assert "<extra_id_1>" in tokenizer.all_special_tokens
    with pytest.raises(TokenizerError, match="`extra_ids` must be a whole number from 0 to 10000, but is 1000000000"):
        load_tokenizer(make(spiece_model=model), tokenizer_type="t5", options={"extra_ids": 10**9})
    llama = load_tokenizer(
        make("llama", tokenizer_model=train(byte_fallback=True, vocab_size=330)), tokenizer_type="llama"
    )
    ids = llama("hello ☃").input_ids
    assert ids[0] == llama.bos_token_id == 1
    assert llama.decode(ids, skip_special_tokens=True) == "hello ☃"


def test_a_model_with_other_ids_is_refused(make: Make, train: Callable[..., bytes]) -> None:
    folder = make(sentencepiece__bpe_model=train(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    with pytest.raises(
        TokenizerError, match=r"has the ids \(2, -1, 1\) for <unk>, <s>, </s>, but a model of this class has"
    ):
        load_tokenizer(folder, tokenizer_type="xlm-roberta")


# ---- what is refused


BAD_MERGES = '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}'
CORRUPT: dict[str, list[str | bytes]] = {
    "tokenizer_json": ["{", "[]", "{}", b"\xff\xfe", "", BAD_MERGES],
    "tokenizer_config_json": [
        "{",
        "[]",
        b"\xff",
        "[" * 100_000,
        '{"pad_token": "\\ud800"}',
        '{"added_tokens_decoder": []}',
    ],
    "special_tokens_map_json": ["nonsense", "3"],
    "added_tokens_json": ['{"<a>": "x"}', '{"<a>": null}', '{"": 260}'],
    "config_json": ["{'a'}"],
    "vocab_json": [
        "{",
        '["a"]',
        '{"a": "b"}',
        '{"a": -1}',
        '{"a": 1.5}',
        '{"a": true}',
        '{"a": 0, "b": 0}',
        '{"a": 1e9}',
    ],
    "merges_txt": ["lonely", "x y z\nunknown pieces", b"\xff\xff"],
}


@pytest.mark.parametrize(("name", "content"), [(name, content) for name in CORRUPT for content in CORRUPT[name]])
def test_a_corrupt_file_is_named(gpt2: Path, make: Make, name: str, content: Any) -> None:
    stem, _, ending = name.rpartition("_")
    make("gpt2", **{name: content})
    with pytest.raises(TokenizerError, match=rf"{stem}\.{ending}"):
        load_tokenizer(gpt2)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x0a\xff\xff\xff\xff\x7f", b"\0" * 1000])
def test_a_corrupt_sentencepiece_model_is_named(make: Make, content: bytes) -> None:
    with pytest.raises(TokenizerError, match=r"sentencepiece\.bpe\.model"):
        load_tokenizer(make(sentencepiece__bpe_model=content), tokenizer_type="mbart50")


def test_a_truncated_sentencepiece_model_is_refused(make: Make, spm: bytes) -> None:
    for length in range(1, len(spm), len(spm) // 40):
        folder = make(sentencepiece__bpe_model=spm[:length])
        try:
            tokenizer = load_tokenizer(folder, tokenizer_type="mbart50")
        except TokenizerError:
            continue
        assert len(tokenizer) < len(spm)  # cut between two pieces, it is a shorter model; nothing crashes


def test_absurd_sizes_are_refused_before_they_are_read(gpt2: Path) -> None:
    with (gpt2 / "tokenizer.json").open("wb") as file:
        file.truncate(vocab_files.VOCABULARY_BYTES + 1)  # sparse
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is larger than the limit of 134,217,728 bytes"):
        load_tokenizer(gpt2)
    with (gpt2 / "tokenizer_config.json").open("wb") as file:
        file.truncate(vocab_files.CONFIG_BYTES + 1)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json is larger than the limit of 16,777,216 bytes"):
        load_tokenizer(gpt2)


@pytest.mark.parametrize("key", ["Regex", "\\u0052egex", "R\\u0065\\u0067\\u0065x"])
def test_a_regular_expression_of_megabytes_is_not_compiled(tmp_path: Path, key: str) -> None:
    backend = json.loads(RustTokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str())
    split = {"type": "Split", "pattern": {"Regex": 'a|\\"' * 1_000_000}, "behavior": "Isolated", "invert": False}
    text = json.dumps(backend | {"pre_tokenizer": split}).replace('"Regex"', f'"{key}"')
    assert json.loads(text)["pre_tokenizer"] == split
    (tmp_path / "tokenizer.json").write_text(text)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json has a regular expression of more than 16 KiB"):
        load_tokenizer(tmp_path)
    assert time.monotonic() - start < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 64  # MiB


def test_a_folder_instead_of_a_file_is_ignored(gpt2: Path) -> None:
    (gpt2 / "tokenizer.json").mkdir()
    assert load_tokenizer(gpt2).tokenizer_class == "GPT2Tokenizer"


def test_a_padding_of_a_terabyte_in_tokenizer_json_has_no_effect(bert: Path, tmp_path: Path) -> None:
    load_tokenizer(bert).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "tokenizer.json").read_text())
    padding = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    fields["padding"] = padding | {"pad_type_id": 0, "pad_token": "[PAD]"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    assert load_tokenizer(tmp_path)("fox").input_ids == [2, 7, 3]
