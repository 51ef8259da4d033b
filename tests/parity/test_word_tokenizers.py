"""The tokenizers of Speech to Text, M2M-100 and BioGPT against `transformers`, in both directions."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import transformers
from hypothesis import given

from dragoman import AutoProcessor, AutoTokenizer
from dragoman.errors import TokenizerError
from dragoman.text.nllb import M2M100_LANGUAGES

from .test_tokenizers import CORPUS, many, texts

FIRST = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
LANGUAGES = ("pt", "fr", "ru", "nl", "ro", "it", "es", "de")
QUOTES = [
    'He said: "It\'s [well-known] & <proven>", at 3.5%…',
    "IL-2-induced T-cells (n=5); p<0.05.",
    "",
    "  ",
    "a\n b",
]


def train_speech_to_text(folder: Path, *, multilingual: bool) -> None:
    model = io.BytesIO()
    tags = [f"<lang:{code}>" for code in LANGUAGES] if multilingual else []
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(CORPUS * 5), model_writer=model, vocab_size=300, bos_id=0, pad_id=1, eos_id=2, unk_id=3,
        user_defined_symbols=tags, character_coverage=0.99, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(4, processor.get_piece_size())]
    kept = [*tags, *(piece for piece in pieces if piece not in tags)][:-9]  # the last nine are not in the vocabulary
    vocab = FIRST | {piece: i for i, piece in enumerate(kept, start=4)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")


def make_biogpt(folder: Path) -> None:
    words = sorted({word for line in [*CORPUS, *QUOTES] for word in line.split()})
    letters = sorted({letter for word in words for letter in word} | set("&;aposqutlg#91"))
    pairs = dict.fromkeys(
        pair
        for word in words
        for pair in zip([*word[:-1], word[-1] + "</w>"], [*word[1:-1], word[-1] + "</w>"], strict=False)
    )
    merges = [*list(pairs)[:150], ("t", "h"), ("th", "e</w>"), ("&", "a"), ("&a", "p")]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = FIRST | {piece: i for i, piece in enumerate(dict.fromkeys(pieces), start=4)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{a} {b} {9}\n" for a, b in merges), encoding="utf-8")


def tokens(codes: str) -> list[str]:
    return [f"__{code}__" for code in M2M100_LANGUAGES[codes]]


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "one language": ("Speech2TextTokenizer", {}),
    "in capitals": ("Speech2TextTokenizer", {"do_upper_case": True}),
    "many languages": ("Speech2TextTokenizer", {"lang_codes": "mustc", "tgt_lang": "ru"}),
    "biogpt": ("BioGptTokenizer", {}),
    # the published settings list the languages; without them, `transformers` does not take their tokens as special
    "hundred languages": ("M2M100Tokenizer", {"additional_special_tokens": tokens("m2m100"), "tgt_lang": "fr"}),
    "eight languages": ("M2M100Tokenizer", {"additional_special_tokens": tokens("wmt21"), "language_codes": "wmt21"}),
}


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Ours from their files, from our files, and unpickled; theirs, and theirs from our files."""
    kind, settings = KINDS[request.param]
    folder = tmp_path_factory.mktemp("theirs")
    if kind == "BioGptTokenizer":
        make_biogpt(folder)
    else:
        train_speech_to_text(folder, multilingual="lang_codes" in settings)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **settings}))
    theirs = getattr(transformers, kind).from_pretrained(folder)
    saved = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(saved)
    ours = AutoTokenizer.from_pretrained(saved)
    again = tmp_path_factory.mktemp("again")
    ours.save_pretrained(again)
    copies = [ours, AutoTokenizer.from_pretrained(again), pickle.loads(pickle.dumps(ours))]  # noqa: S301
    return copies, [theirs, getattr(transformers, kind).from_pretrained(again)]


@many
@given(text=texts)
def test_encoding_and_decoding(both: Any, text: str) -> None:
    copies, references = both
    for theirs in references:
        expected = theirs(text)["input_ids"]
        back = theirs.decode(expected), theirs.decode(expected, skip_special_tokens=True)
        for ours in copies:
            assert ours(text)["input_ids"] == expected
            assert (ours.decode(expected), ours.decode(expected, skip_special_tokens=True)) == back


@pytest.mark.parametrize("text", QUOTES)
def test_words_with_punctuation(both: Any, text: str) -> None:
    copies, (theirs, _) = both
    expected = theirs(text)["input_ids"]
    for ours in copies:
        assert ours(text)["input_ids"] == expected
        assert ours.decode(expected, skip_special_tokens=True) == theirs.decode(expected, skip_special_tokens=True)


def test_decoding_of_any_ids(both: Any) -> None:
    (ours, *_), (theirs, _) = both
    roles = {role: token for role, token in theirs.special_tokens_map.items() if role.endswith("_token")}
    assert ours.special_tokens_map == roles
    rng = np.random.default_rng(0)
    for _ in range(30):
        ids = rng.integers(0, len(theirs), 12).tolist()
        for skip in False, True:
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_languages(tmp_path: Path) -> None:
    train_speech_to_text(tmp_path, multilingual=True)
    settings = {"tokenizer_class": "Speech2TextTokenizer", "lang_codes": "mustc"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.Speech2TextTokenizer.from_pretrained(tmp_path)
    assert ours.lang_code_to_id == theirs.lang_code_to_id
    assert ours.tgt_lang == theirs.tgt_lang == "pt"
    ours.tgt_lang = theirs.tgt_lang = "de"
    assert ours(CORPUS[3])["input_ids"] == theirs(CORPUS[3])["input_ids"]
    assert ours(text_target=CORPUS[3])["input_ids"][0] == ours.lang_code_to_id["de"]
    with pytest.raises(TokenizerError, match=r"`tgt_lang` must be one of pt, fr, .*but is 'deu'"):
        ours.tgt_lang = "deu"
    for wrong in ({"lang_codes": "covost"}, {"tgt_lang": "xx"}, {"lang_codes": ["mustc"]}, {"tgt_lang": 3}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | wrong))
        with pytest.raises(TokenizerError, match=r"must be .*, but is ('covost'|'xx'|\['mustc'\]|3)\."):
            AutoTokenizer.from_pretrained(tmp_path)


def test_hundred_languages(tmp_path: Path) -> None:
    train_speech_to_text(tmp_path, multilingual=False)
    settings = {"tokenizer_class": "M2M100Tokenizer", "src_lang": "en"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), transformers.M2M100Tokenizer.from_pretrained(tmp_path)
    assert ours.lang_code_to_id == theirs.lang_code_to_id
    assert ours.get_lang_id("zu") == theirs.get_lang_id("zu")
    for language in "fr", "af":
        ours.src_lang = theirs.src_lang = language
        assert ours(CORPUS[3])["input_ids"] == theirs(CORPUS[3])["input_ids"]
    ours.tgt_lang = theirs.tgt_lang = "de"
    assert ours(text_target=CORPUS[3])["input_ids"] == theirs(text_target=CORPUS[3])["input_ids"]
    with pytest.raises(TokenizerError, match=r"`lang` must be one of af, am, .*but is 'xx'"):
        ours.get_lang_id("xx")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"language_codes": "flores"}))
    with pytest.raises(TokenizerError, match=r"`language_codes` must be null or one of m2m100, wmt21, but is 'flores'"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_lower_case_and_the_processor(tmp_path: Path) -> None:
    train_speech_to_text(tmp_path, multilingual=False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "speech_to_text"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    extractor = transformers.Speech2TextFeatureExtractor()
    transformers.Speech2TextProcessor(extractor, transformers.Speech2TextTokenizer.from_pretrained(tmp_path))
    extractor.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.tokenizer.tokenizer_class == "Speech2TextTokenizer"
    assert processor.tokenizer("The QUICK fox")["input_ids"] == processor.tokenizer("the quick fox")["input_ids"]
