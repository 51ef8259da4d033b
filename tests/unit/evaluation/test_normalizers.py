"""The normalisers of word error rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.evaluation.normalizers import normalize_basic, normalize_english


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello,  World!\n", "hello world"),
        ("Don't — stop… 3.5%", "don t stop 3 5"),
        ("ＡＢＣ ﬁn", "abc fin"),  # full width, ligature
        ("«مرحبًا، كيفَ الحال؟»", "مرحبًا كيفَ الحال"),
        ("مـــرحـبا", "مرحبا"),  # tatweel
        ("\u200fسلام\u200e", "سلام"),  # direction marks
        ("ﷺ", "صلى الله عليه وسلم"),  # a presentation form
        ("你好，世界。", "你好 世界"),
        ("हिन्दी में।", "हिन्दी में"),
        ("👩‍👩‍👧 ok 🇩🇪", "ok"),
        ("İstanbul", "i̇stanbul"),
        ("", ""),
        ("…!?", ""),
    ],
)
def test_basic(text: str, plain: str) -> None:
    assert normalize_basic(text) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ünïcödé", "unicode"),
        ("مَرْحَبًا", "مرحبا"),
        ("أإآؤئء", "ااا" + "وي" + "ء"),
        ("שָׁלוֹם", "שלום"),
        ("Ελλάς ή ϊ", "ελλας η ι"),
        ("й", "и"),
        ("हिन्दी में", "हिन्दी में"),  # vowel signs are letters
        ("น้ำ ที่", "น้ํา ที่"),  # tones stay; the compatibility form of sara am is written in two parts
        ("ガギ が", "ガギ が"),  # voicing stays
        ("tiếng Việt", "tieng viet"),
        ("한국어", "한국어"),
    ],
)
def test_without_diacritics(text: str, plain: str) -> None:
    assert normalize_basic(text, remove_diacritics=True) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Don’t you won't can't", "do not you will not can not"),
        (
            "It's John's; we're they've I'm he'd she'll let's",
            "it is johns we are they have i am he would she will let us",
        ),
        ("Um, uh… hmm the hum mhm", "the hum"),
        ("Mr. Brown and Dr Who", "mister brown and doctor who"),
        ("1,000,000 and 1,5 and 12,345", "1000000 and 1 5 and 12345"),
        ("three o'clock", "three oclock"),
        ("cannot", "can not"),
    ],
)
def test_english(text: str, plain: str) -> None:
    assert normalize_english(text) == plain


@given(text=st.text(max_size=60), remove=st.booleans())
def test_twice_is_once(text: str, remove: bool) -> None:
    once = normalize_basic(text, remove_diacritics=remove)
    assert normalize_basic(once, remove_diacritics=remove) == once
    assert once == once.strip()
    assert "  " not in once


@given(text=st.text(alphabet="aAiImMdDtT'’ 1,0.hu", max_size=40))
def test_english_words_are_basic_words(text: str) -> None:
    once = normalize_english(text)
    assert normalize_basic(once) == once
