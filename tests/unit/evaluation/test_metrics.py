"""Metrics equal those of jiwer and sacrebleu."""

import jiwer
import pytest
import sacrebleu

from dragoman.errors import ConfigError
from dragoman.evaluation import METRICS, interval, measure
from dragoman.evaluation.normalizers import NORMALIZERS

THEIRS = {
    "wer": lambda r, h: 100 * jiwer.wer(r, h),
    "cer": lambda r, h: 100 * jiwer.cer(r, h),
    "bleu": lambda r, h: sacrebleu.corpus_bleu(h, [r], force=True).score,
    "chrf": lambda r, h: sacrebleu.corpus_chrf(h, [r]).score,
    "ter": lambda r, h: sacrebleu.corpus_ter(h, [r]).score,
}


@pytest.mark.parametrize("name", METRICS)
def test_ten_thousand_random_pairs_score_as_the_libraries_score_them(name, pairs):
    references, hypotheses = pairs(10_000)
    measured = measure(name, references, hypotheses, normalizer="none")
    assert measured.value() == pytest.approx(THEIRS[name](references, hypotheses), abs=1e-9)
    for first in range(0, 10_000, 500):  # and parts of the corpus
        part = slice(first, first + 100)
        assert measured.value(part) == pytest.approx(THEIRS[name](references[part], hypotheses[part]), abs=1e-9)


@pytest.mark.parametrize("name", ["wer", "cer", "chrf", "ter"])
def test_single_pairs_score_as_the_libraries_score_them(name, pairs):
    references, hypotheses = pairs(200, seed=1)
    each = measure(name, references, hypotheses, normalizer="none").per_item()
    for value, reference, hypothesis in zip(each, references, hypotheses, strict=True):
        assert value == pytest.approx(THEIRS[name]([reference], [hypothesis]), abs=1e-9)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_error_rates_are_those_of_normalised_texts(normalizer, pairs):
    references, hypotheses = pairs(500, seed=2)
    normalize = NORMALIZERS[normalizer]
    expected = jiwer.wer([*map(normalize, references)], [*map(normalize, hypotheses)])
    measured = measure("wer", references, hypotheses, normalizer=normalizer)
    assert measured.value() == pytest.approx(100 * expected)
    assert measured.signature.endswith(f"|norm:{normalizer}")


def test_chinese_has_a_tokenizer_of_its_own():
    references, hypotheses = ["今天天气很好我们去公园"], ["今天天气很好我们去学校"]
    measured = measure("bleu", references, hypotheses, bleu_tokenizer="zh")
    assert measured.value() == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize="zh").score)
    assert "tok:zh" in measured.signature
    with pytest.raises(ConfigError, match="`bleu_tokenizer` 'zz' cannot be used"):
        measure("bleu", references, hypotheses, bleu_tokenizer="zz")


def test_no_items_and_unknown_names():
    for name in METRICS:
        assert measure(name, [], []).value() == 0
        assert interval(measure(name, ["a"], ["a"])).low is None
    with pytest.raises(ConfigError, match="'wre' is unknown"):
        measure("wre", [], [])
    with pytest.raises(ConfigError, match="1 references, but 2 hypotheses"):
        measure("wer", ["a"], ["a", "b"])
