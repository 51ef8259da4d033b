"""The tokenizers of CTC models, mBART and Whisper."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import TokenizerError
from dragoman.processing.from_files import TOKENIZER_OF
from dragoman.text import vocab_files
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.text.mbart import MBART50_LANGUAGES, MBart50Tokenizer
from dragoman.text.whisper import LANGUAGES, WhisperTokenizer

load_tokenizer = partial(vocab_files.load_tokenizer, class_of=TOKENIZER_OF)

# ---- CTC: "<pad>" 0, "<s>" 1, "</s>" 2, "<unk>" 3, "|" 4, H 5, E 6, L 7, O 8, W 9, R 10, D 11, É 12


@pytest.fixture
def characters(ctc: Path) -> Wav2Vec2CTCTokenizer:
    tokenizer = load_tokenizer(ctc)
    assert isinstance(tokenizer, Wav2Vec2CTCTokenizer)
    return tokenizer


def test_characters_are_ids(characters: Wav2Vec2CTCTokenizer) -> None:
    assert characters("HELLO WORLD").input_ids == [5, 6, 7, 7, 8, 4, 9, 8, 10, 7, 11]
    assert characters("HÉ<pad>?\n").input_ids == [5, 12, 0, 3, 3]
    assert characters.word_delimiter_token_id == 4


@pytest.mark.parametrize("skip", [False, True])
def test_a_blank_separates_equal_letters(characters: Wav2Vec2CTCTokenizer, skip: bool) -> None:
    frames = [0, 5, 5, 0, 6, 7, 7, 0, 7, 8, 0, 0]
    assert characters.decode(frames, skip_special_tokens=skip) == "HELLO"  # transformers says HELO when it skips


def test_skipped_tokens_leave_no_gap(characters: Wav2Vec2CTCTokenizer) -> None:
    frames = [5, 4, 3, 4, 6]
    assert characters.decode(frames, skip_special_tokens=True) == "H E"
    assert characters.decode(frames) == "H <unk> E"


def test_the_output_of_a_text_decoder_is_not_merged_on_request(characters: Wav2Vec2CTCTokenizer) -> None:
    assert characters.decode([5, 6, 7, 7, 8], group_tokens=False) == "HELLO"
    assert characters.batch_decode([[7, 7], [8, 8]], group_tokens=False) == ["LL", "OO"]
    assert characters.decode([5, 6], spaces_between_special_tokens=True) == "H E"


def test_offsets_count_frames(characters: Wav2Vec2CTCTokenizer) -> None:
    frames = [0, 5, 5, 6, 1, 4, 4, 0, 9, 0]
    out = characters.decode(frames, skip_special_tokens=True, output_char_offsets=True, output_word_offsets=True)
    assert out.text == "HE W"
    assert out.word_offsets == [
        {"word": "HE", "start_offset": 1, "end_offset": 4},
        {"word": "W", "start_offset": 8, "end_offset": 9},
    ]
    assert [(c["char"], c["start_offset"], c["end_offset"]) for c in out.char_offsets] == [
        ("H", 1, 3), ("E", 3, 4), (" ", 5, 7), ("W", 8, 9),
    ]  # fmt: skip
    batch = characters.batch_decode(np.array([frames, frames]), output_word_offsets=True)
    assert batch.text == ["HE<s> W"] * 2
    assert len(batch.word_offsets) == 2
    assert batch.char_offsets == [None, None]


def test_lower_case_texts_for_an_upper_case_vocabulary(ctc: Path) -> None:
    tokenizer = load_tokenizer(ctc, options={"do_lower_case": True})
    assert tokenizer("hello <s>é").input_ids == [5, 6, 7, 7, 8, 1, 12]
    assert tokenizer.decode([5, 6, 0, 12]) == "heé"


def test_a_vocabulary_without_an_unknown_token(ctc: Path) -> None:
    (ctc / "vocab.json").write_text(json.dumps({"<pad>": 0, "A": 1, "|": 2}))
    with pytest.raises(TokenizerError, match="'x' is not in the vocabulary, and there is no unknown token"):
        load_tokenizer(ctc)("A x")


# ---- mBART-50


def test_languages_are_set_and_checked(mbart: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(mbart)
    assert isinstance(tokenizer, MBart50Tokenizer)
    codes = tokenizer.lang_code_to_id
    assert list(codes) == list(MBART50_LANGUAGES)
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    assert tokenizer("hello").input_ids[0] == codes["en_XX"]
    assert tokenizer(text_target="hello").input_ids[0] == codes["de_DE"]
    both = tokenizer(["hello", "world"], text_target=["hello", "world"], padding=True, return_tensors="np")
    assert (both["labels"][:, 0] == codes["de_DE"]).all()
    tokenizer.tgt_lang = "ar_AR"
    tokenizer.src_lang = "fr_XX"
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again("hello").input_ids[0] == codes["fr_XX"]
    assert again(text_target="hello").input_ids[0] == codes["ar_AR"]
    with pytest.raises(TokenizerError, match=r"`tgt_lang` must be one of ar_AR, .* but is 'de_XX'\. Did you mean"):
        tokenizer.tgt_lang = "de_XX"
    with pytest.raises(TokenizerError, match="`src_lang` must be one of"):
        load_tokenizer(mbart, options={"src_lang": "english"})


def test_language_tokens_are_special(mbart: Path) -> None:
    tokenizer = load_tokenizer(mbart)
    ids = tokenizer("hello world").input_ids
    assert tokenizer.decode(ids) == "en_XX hello world</s>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hello world"


# ---- Whisper


@pytest.fixture
def prompted(whisper: Path) -> WhisperTokenizer:
    tokenizer = load_tokenizer(whisper)
    assert isinstance(tokenizer, WhisperTokenizer)
    return tokenizer


def prefix(tokenizer: WhisperTokenizer) -> str:
    return "".join(tokenizer.convert_ids_to_tokens(tokenizer.prefix_tokens))


def test_the_prompt_has_language_task_and_timestamps(prompted: WhisperTokenizer) -> None:
    assert prefix(prompted) == "<|startoftranscript|><|notimestamps|>"
    assert prompted("the").input_ids == [
        *prompted.prefix_tokens,
        *prompted.encode("the", add_special_tokens=False),
        259,
    ]
    assert prompted.get_decoder_prompt_ids(language="Arabic", task="translate") == [(1, 262), (2, 263), (3, 268)]
    assert prefix(prompted) == "<|startoftranscript|><|ar|><|translate|><|notimestamps|>"
    prompted.set_prefix_tokens(language="en", task="transcribe", predict_timestamps=True)
    assert prefix(prompted) == "<|startoftranscript|><|en|><|transcribe|>"


def test_the_prompt_is_saved_and_loaded(whisper: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(whisper, options={"language": "arabic", "task": "transcribe"})
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again("the").input_ids == tokenizer("the").input_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "arabik"}, r"`language` is 'arabik', for which .* Did you mean \"arabic\"\?"),
        ({"language": "french"}, r"no token <\|fr\|>.*English-only models take neither"),
        ({"task": "translation"}, r"`task` is 'translation', .*Did you mean \"translate\"\?"),
    ],
)
def test_an_impossible_prompt(whisper: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(whisper, options=options)


def test_timestamps_and_prompts_are_skipped(prompted: WhisperTokenizer) -> None:
    begin = prompted.timestamp_begin
    assert begin == len(prompted)  # this vocabulary does not list times, as early ones do not
    text = prompted.encode(" the", add_special_tokens=False)
    before = [prompted.convert_tokens_to_ids("<|startofprev|>"), *prompted.encode(" he", add_special_tokens=False)]
    ids = [*before, *prompted.prefix_tokens, begin, *text, begin + 54, 259]
    assert prompted.decode(ids, skip_special_tokens=True) == " the"
    timed = prompted.decode(ids, skip_special_tokens=True, decode_with_timestamps=True)
    assert timed == "<|0.00|> the<|1.08|>"
    assert prompted.decode(before, skip_special_tokens=True) == ""
    assert "<|startofprev|>" in prompted.decode(ids)


def test_timestamps_continue_over_windows(prompted: WhisperTokenizer) -> None:
    begin = prompted.timestamp_begin
    (word,) = prompted.encode(" the", add_special_tokens=False)
    ids = [begin, word, begin + 1000, begin, word, begin + 50]  # a window that ended in one time is 30 s long
    assert prompted.decode(ids, decode_with_timestamps=True) == "<|0.00|> the<|20.00|><|30.00|> the<|31.00|>"
    # Two times in a row: the window was cut there, and what follows counts from the first of them.
    ids = [begin, word, begin + 1000, begin + 1000, begin, word, begin + 50]
    assert prompted.decode(ids, decode_with_timestamps=True) == "<|0.00|> the<|20.00|><|20.00|> the<|21.00|>"


def test_tokens_added_after_the_timestamps_are_text(prompted: WhisperTokenizer) -> None:
    prompted.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)])
    prompted.add_tokens(["<noise>"])
    ids = prompted("the <noise>").input_ids
    assert prompted.decode(ids, skip_special_tokens=True) == "the <noise>"


def test_a_prompt_of_previous_text(prompted: WhisperTokenizer) -> None:
    ids = prompted.get_prompt_ids("the")
    assert ids.dtype == np.int64
    assert prompted.decode(ids) == "<|startofprev|> the"
    with pytest.raises(TokenizerError, match=r"must not contain <\|en\|>"):
        prompted.get_prompt_ids("the <|en|>")


def test_a_hundred_languages() -> None:
    assert len(LANGUAGES) == 100
    assert LANGUAGES["ar"] == "arabic"
    assert LANGUAGES["ht"] == "haitian creole"
