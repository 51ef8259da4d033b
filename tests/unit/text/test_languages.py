"""Looking up the token of a language."""

import pytest

from dragoman.text.languages import LANGUAGES, OTHER_CODES, find_language
from dragoman.text.nllb import M2M100_LANGUAGES, NLLB_LANGUAGES

NLLB = {code: i for i, code in enumerate(NLLB_LANGUAGES)}
M2M100 = {code: i for i, code in enumerate(M2M100_LANGUAGES["m2m100"])}


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("fra_Latn", "fra_Latn"),
        ("FRA-latn", "fra_Latn"),
        ("fra", "fra_Latn"),
        ("fr", "fra_Latn"),
        ("French", "fra_Latn"),
        ("arabic", "arb_Arab"),
        ("chinese", "zho_Hans"),
        ("zho_Hant", "zho_Hant"),
        ("zu", "zul_Latn"),
        ("cantonese", "yue_Hant"),
    ],
)
def test_nllb_knows_languages_by_code_and_name(wanted: str, code: str) -> None:
    assert find_language(wanted, NLLB) == NLLB[code]


@pytest.mark.parametrize(("wanted", "code"), [("fr", "fr"), ("javanese", "jv"), ("jw", "jv"), ("<|de|>", "de")])
def test_m2m100_knows_languages_by_code_and_name(wanted: str, code: str) -> None:
    assert find_language(wanted, M2M100) == M2M100[code]


def test_unknown_languages_have_no_token() -> None:
    assert find_language("klingon", NLLB) is None
    assert find_language("breton", NLLB) is None


def test_other_codes_are_those_of_a_decoder() -> None:
    known = {code.partition("_")[0] for code in NLLB} | set(M2M100)
    assert [code for others in OTHER_CODES.values() for code in others if code not in known] == []
    assert sorted(set(LANGUAGES) - set(OTHER_CODES)) == ["br", "haw", "la", "yue"]  # NLLB has no others
