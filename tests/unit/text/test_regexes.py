"""Regular expressions that repeat repetitions are refused; those of tokenizers in use are not."""

import json

import pytest

from dragoman import AutoTokenizer
from dragoman.errors import TokenizerError
from dragoman.text.regexes import repeats_repetitions


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(?:a*)*b",
        "((a+))+c",
        r"(\w+\s?)*!",
        "(a{2,})+",
        "(?:x|a+)*",
        "((a|b+)c?)+",
        "(?i:a+)+?b",
        "([^)]+)+",
        "(?<n>a+)+",
    ],
)
def test_exponential(pattern):
    assert repeats_repetitions(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}|\s+",
        r"(a+)?b",
        r"(ab)+",
        r"(?>a+)+b",
        r"(a++)+b",
        r"\(a+\)+",
        r"[(a+)+]",
        r"(?=a+)b+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]+[A-Za-z]+",
        r" {2,}",
        r"(a+)(b+)",
        r")+(",
    ],
)
def test_in_use(pattern):
    assert not repeats_repetitions(pattern)


@pytest.mark.parametrize("place", ["normalizer", "pre_tokenizer"])
def test_a_file_is_refused_when_it_is_loaded(place, tmp_path):
    step = {"type": "Split", "pattern": {"Regex": "(a+)+c"}, "behavior": "Isolated", "invert": False}
    if place == "normalizer":
        step = {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "(a+)+c"}, "content": ""}]}
    model = {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"}
    content = {"version": "1.0", "added_tokens": [], "model": model, place: step}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(TokenizerError, match=rf"The {place} of .* repeats a repetition.*'\(a\+\)\+c'"):
        AutoTokenizer.from_pretrained(tmp_path)
