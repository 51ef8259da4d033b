import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.transcriber.words import find_words, timed_words, word_boundaries


def decoder(*pieces: str | bytes):
    """A tokenizer with these pieces for the ids 0, 1, …, which strips its texts."""

    def decode(ids) -> str:
        data = b"".join(p if isinstance(p, bytes) else p.encode() for p in (pieces[i] for i in ids))
        return data.decode(errors="replace").strip()

    return decode


def words_of(*pieces, times=None):
    word_tokens = find_words(range(len(pieces)), decoder(*pieces))
    begins = np.arange(len(pieces) + 1.0) if times is None else np.array(times)
    return word_tokens, word_boundaries(word_tokens, begins).tolist() if word_tokens.words else []


def test_tokens_are_joined_to_words():
    word_tokens, found = words_of(" Good", " inter", "pre", "ter", "s", " listen")
    assert word_tokens.words == ("Good", " interpreters", " listen")
    assert word_tokens.first == (0, 1, 5)
    assert found == [[0, 0], [1, 1], [5, 5], [6, 6]]


def test_punctuation_is_between_the_words():
    word_tokens, found = words_of(" Yes", ",", " no", "?!")
    assert word_tokens.words == ("Yes,", " no?!")
    assert found == [[0, 0], [1, 2], [3, 4]]


def test_a_blank_of_its_own_and_punctuation_inside_a_token():
    word_tokens, found = words_of("Yes.", " ", "It", "'s")
    assert word_tokens.words == ("Yes.", " It's")
    assert found[0] == [0, 0]
    assert found[-1] == [4, 4]


def test_words_that_share_a_token_share_its_time_by_letters():
    word_tokens, found = words_of("of the", " sea")
    assert word_tokens.words == ("of", " the", " sea")
    assert found == [[0, 0], [0.4, 0.4], [1, 1], [2, 2]]


def test_a_character_of_several_tokens_begins_with_the_first():
    arabic = "با".encode()
    word_tokens, found = words_of("مر", b" " + arabic[:1], arabic[1:3], arabic[3:])
    assert word_tokens.words == ("مر", " با")
    assert word_tokens.first == (0, 1)
    assert found[1] == [1, 1]


def test_scripts_without_blanks_are_cut_at_tokens_and_punctuation_is_not():
    assert words_of("你", "好", "。", "（", "再见", "）", "John")[0].words == ("你", "好。", "（再见）John")
    assert words_of("สวัส", "ดี", "ครับ")[0].words == ("สวัส", "ดี", "ครับ")
    assert words_of("สวัสด", "ีครับ")[0].words == ("สวัสดีครับ",), "a vowel sign never begins a word"


def test_without_words():
    assert words_of()[0].words == ()
    assert words_of(" ", "")[0].words == ()


def test_probability_is_the_mean_over_the_tokens_of_a_word():
    word_tokens, _ = words_of(" inter", "preter", " and")
    words = timed_words(word_tokens, [(10.0, 11.0), (11.0, 11.5)], np.log([0.5, 0.25, 0.9, 0.1]).tolist())
    assert [(w.word, w.start, w.end, w.probability) for w in words] == [
        ("interpreter", 10.0, 11.0, 0.375),
        (" and", 11.0, 11.5, 0.9),
    ]


@given(
    st.lists(
        st.sampled_from([" a", "b", ".", " ", "", "مر", " حب", "你", "。", "é", "\n", "-", " x y", b"\xe4", b"\xbd"])
    )
)
def test_words_join_to_the_text_and_never_go_back(pieces):
    decode = decoder(*pieces)
    word_tokens, found = words_of(*pieces)
    assert "".join(word_tokens.words) == decode(range(len(pieces)))
    assert all(word.strip() for word in word_tokens.words)
    flat = np.array(found)
    assert (np.diff(flat, axis=0) >= 0).all() if len(flat) else not word_tokens.words
    assert all(0 <= low <= high <= len(pieces) for low, high in found)


@pytest.mark.parametrize(
    "text", [" Hello, world. It's 5 o'clock", " مرحبا بك يا صديقي", " 你好。再见 John", " naïve 🙂 – yes"]
)
def test_a_byte_level_tokenizer(text, whisper_checkpoint):
    from dragoman import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(whisper_checkpoint)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    word_tokens = find_words(ids, lambda some: tokenizer.decode(list(some), skip_special_tokens=True).strip())
    assert "".join(word_tokens.words) == text.strip()
    assert len(word_tokens.words) >= len(text.split())
