"""Text normalisers: transcript and reference are reduced to words before a word error rate is counted.

A word error rate depends on the normaliser: name it with every figure.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping

_TATWEEL = "ـ"  # stretches an Arabic word in print, without a meaning


def normalize_basic(text: str, *, remove_diacritics: bool = False) -> str:
    """Reduce a text of any language to its words.

    1. Compatibility forms become plain ones (Unicode NFKC: full-width letters, ligatures, Arabic presentation forms).
    2. Letters become lower case.
    3. Invisible characters (direction marks, joiners, soft hyphens) and the Arabic tatweel are removed.
    4. Punctuation and symbols of every script, apostrophes included, become spaces; runs of spaces become one.
    5. With `remove_diacritics`, the accents of Latin, Greek and Cyrillic letters, the vowel signs and the hamzas and
       maddas on Arabic letters, and the Hebrew points are removed. Vowel signs of Indic scripts, Thai tones and kana
       voicing marks always stay: they distinguish words.

    Digits stay as they are written ("٣" is not "3", "three" is not "3").
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    if remove_diacritics:
        decomposed = unicodedata.normalize("NFD", text)
        text = unicodedata.normalize("NFC", "".join(c for c in decomposed if not _is_diacritic(c)))
    text = "".join(
        " " if unicodedata.category(c)[0] in "PS" else c
        for c in text
        if unicodedata.category(c) != "Cf" and c != _TATWEEL
    )
    return " ".join(text.split())


def _is_diacritic(character: str) -> bool:
    # Canonical combining classes: 10-36 are Hebrew and Arabic points, 200 and more the accents of alphabets; the other
    # classes are Indic, Thai, Tibetan and kana signs, which work like letters.
    order = unicodedata.combining(character)
    return 10 <= order <= 36 or order >= 200


_APOSTROPHES = re.compile("[’‘ʼ＇`´]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_FILLERS = re.compile(r"\b(?:h+m+|m+h*m+|u+h+|u+m+)\b")
_EXPANSIONS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\bwon't\b", "will not"),
        (r"\bcan't\b", "can not"),
        (r"\bshan't\b", "shall not"),
        (r"\bain't\b", "is not"),
        (r"\bcannot\b", "can not"),
        (r"\blet's\b", "let us"),
        (r"\b(he|she|it|that|this|there|here|what|who|where|when|how)'s\b", r"\1 is"),
        (r"n't\b", " not"),
        (r"'re\b", " are"),
        (r"'ll\b", " will"),
        (r"'ve\b", " have"),
        (r"'d\b", " would"),
        (r"'m\b", " am"),
        (r"\bmr\b\.?", "mister"),
        (r"\bmrs\b\.?", "missus"),
        (r"\bms\b\.?", "miss"),
        (r"\bdr\b\.?", "doctor"),
        (r"\bprof\b\.?", "professor"),
        (r"'", ""),  # the others belong to a word: john's, o'clock
    )
)


def normalize_english(text: str) -> str:
    """Reduce an English text to its words, each in one spelling.

    Before `normalize_basic`, contractions are spelled out ("don't" is "do not", "it's" is "it is", but the possessive
    "john's" becomes "johns"), hesitations (hmm, mhm, uh, um) are removed, the titles mr, mrs, ms, dr and prof are
    spelled out, and thousands lose their commas ("1,000" is "1000").

    Number words and British spellings stay as they are, so word error rates differ slightly from those with Whisper's
    own normaliser.
    """
    text = _APOSTROPHES.sub("'", unicodedata.normalize("NFKC", text)).lower()
    text = _FILLERS.sub(" ", _THOUSANDS.sub("", text))
    for pattern, plain in _EXPANSIONS:
        text = pattern.sub(plain, text)
    return normalize_basic(text)


def normalize_none(text: str) -> str:
    """Return the text as it is: case and punctuation count."""
    return text


NORMALIZERS: Mapping[str, Callable[[str], str]] = {
    "english": normalize_english,
    "basic": normalize_basic,
    "none": normalize_none,
}
