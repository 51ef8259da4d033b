"""Metrics equal those of jiwer and sacrebleu; intervals cover; tests of significance keep their level."""

import random

import jiwer
import numpy as np
import pytest
import sacrebleu

from dragoman.errors import ConfigError
from dragoman.evaluation import METRICS, compare, interval, measure
from dragoman.evaluation.metrics import Measured
from dragoman.evaluation.normalizers import NORMALIZERS

LATIN = "the a cat sat. on, mat! don't Mr. 1,000 uh é e\u0301 naïve Straße ЖУК -- … ñ n\u0303 ﬁne Ａ 👍🏽"
OTHERS = "مرحبا بالعالم كِتَابٌ لا إله \u200f\u061f 你好 世界 今天天气 日本語 हिन्दी नमस्ते ไทย"
WORDS = [*LATIN.split(), *OTHERS.split()]


def pairs(count, seed=0):
    rng = random.Random(seed)
    references, hypotheses = [], []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.choice([0, 1, 2, 3, 5, 8]))]
        other = [rng.choice(WORDS) if rng.random() < 0.3 else word for word in words if rng.random() < 0.9]
        if rng.random() < 0.2:
            other.insert(rng.randint(0, len(other)), rng.choice(WORDS))
        references.append(rng.choice([" ", "", "  "]).join(words) if rng.random() < 0.1 else " ".join(words))
        hypotheses.append(" ".join(other))
    return references, hypotheses


THEIRS = {
    "wer": lambda r, h: 100 * jiwer.wer(r, h),
    "cer": lambda r, h: 100 * jiwer.cer(r, h),
    "bleu": lambda r, h: sacrebleu.corpus_bleu(h, [r], force=True).score,
    "chrf": lambda r, h: sacrebleu.corpus_chrf(h, [r]).score,
    "ter": lambda r, h: sacrebleu.corpus_ter(h, [r]).score,
}


@pytest.mark.parametrize("name", METRICS)
def test_ten_thousand_random_pairs_score_as_the_libraries_score_them(name):
    references, hypotheses = pairs(10_000)
    measured = measure(name, references, hypotheses, normalizer="none")
    assert measured.value() == pytest.approx(THEIRS[name](references, hypotheses), abs=1e-9)
    for first in range(0, 10_000, 500):  # and parts of the corpus
        part = slice(first, first + 100)
        assert measured.value(part) == pytest.approx(THEIRS[name](references[part], hypotheses[part]), abs=1e-9)


@pytest.mark.parametrize("name", ["wer", "cer", "chrf", "ter"])
def test_single_pairs_score_as_the_libraries_score_them(name):
    references, hypotheses = pairs(200, seed=1)
    each = measure(name, references, hypotheses, normalizer="none").per_item()
    for value, reference, hypothesis in zip(each, references, hypotheses, strict=True):
        assert value == pytest.approx(THEIRS[name]([reference], [hypothesis]), abs=1e-9)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_error_rates_are_those_of_normalised_texts(normalizer):
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


def word_errors(rng, items, rate=0.15):
    """Items as recordings are: lengths and difficulty differ widely."""
    words = rng.integers(1, 25, items)
    difficulty = rng.beta(1, 1 / rate - 1, items)
    return np.stack([rng.binomial(words, difficulty), words], axis=1).astype(float)


def as_measured(statistics):
    return Measured(
        name="wer", signature="", statistics=statistics, score=lambda sums: 100 * sums[..., 0] / sums[..., 1]
    )


@pytest.mark.parametrize("items", [60, 200])
def test_intervals_cover_the_truth_as_often_as_they_say(items):
    rng = np.random.default_rng(items)
    trials, covered = 1_000, 0
    for trial in range(trials):
        figure = interval(as_measured(word_errors(rng, items)), resamples=400, seed=trial)
        covered += figure.low <= 15 <= figure.high
    assert 0.93 <= covered / trials <= 0.97


def test_intervals_over_speakers_cover_where_items_of_a_speaker_are_alike():
    rng = np.random.default_rng(7)
    trials, by_speaker, by_item = 200, 0, 0
    for trial in range(trials):
        rates = np.repeat(rng.beta(3, 17, 60), 10)
        words = rng.integers(5, 25, 600)
        measured = as_measured(np.stack([rng.binomial(words, rates), words], axis=1).astype(float))
        over_speakers = interval(measured, resamples=400, seed=trial, units=np.repeat(np.arange(60), 10))
        over_items = interval(measured, resamples=400, seed=trial)
        by_speaker += over_speakers.low <= 15 <= over_speakers.high
        by_item += over_items.low <= 15 <= over_items.high
    assert by_speaker / trials > 0.91
    assert by_item / trials < 0.85


def test_equal_systems_differ_significantly_in_one_case_of_twenty():
    rng = np.random.default_rng(3)
    trials, wins = 600, 0
    for trial in range(trials):
        first, second = word_errors(rng, 80), word_errors(rng, 80)
        second[:, 1] = first[:, 1]
        second[:, 0] = rng.binomial(first[:, 1].astype(int), rng.beta(1, 5.67, 80))
        wins += compare(as_measured(first), as_measured(second), resamples=200, seed=trial).p_value < 0.05
    assert 0.02 < wins / trials < 0.08


def test_a_better_system_is_named_and_the_comparison_is_symmetric():
    references, hypotheses = pairs(300, seed=4)
    worse = [f"{text} wrong" for text in hypotheses]
    for name in METRICS:
        good, bad = measure(name, references, hypotheses), measure(name, references, worse)
        there, back = compare(good, bad), compare(bad, good)
        assert (there.better, back.better) == ("first", "second")
        assert there.p_value == back.p_value < 0.01
        assert there.difference == pytest.approx(-back.difference)
        assert there.low < there.difference < there.high
        assert (there.difference < 0) == good.lower_is_better
    same = compare(good, good)
    assert (same.better, same.p_value, same.difference) == (None, 1.0, 0.0)


def test_intervals_repeat_and_odd_settings_are_refused():
    measured = measure("wer", *pairs(50))
    assert interval(measured, seed=1) == interval(measured, seed=1)
    with pytest.raises(ConfigError, match="`resamples` must be at least 100"):
        interval(measured, resamples=5)
    with pytest.raises(ConfigError, match="`level` must be between 0 and 1"):
        interval(measured, level=95)
    with pytest.raises(ConfigError, match="`units` must name 50 items"):
        interval(measured, units=["a"])
