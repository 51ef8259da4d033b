"""Intervals cover the truth; tests of significance keep their level."""

import numpy as np
import pytest

from dragoman.errors import ConfigError
from dragoman.evaluation import METRICS, compare, interval, measure
from dragoman.evaluation.metrics import Measured


def word_errors(rng, items, rate=0.15):
    """Items as recordings are: lengths and difficulty differ widely."""
    words = rng.integers(1, 25, items)
    difficulty = rng.beta(1, 1 / rate - 1, items)
    return np.stack([rng.binomial(words, difficulty), words], axis=1).astype(float)


def as_measured(statistics):
    return Measured(
        name="wer", signature="", statistics=statistics, score=lambda sums: 100 * sums[..., 0] / sums[..., 1]
    )


@pytest.mark.parametrize(("items", "trials"), [(60, 1_000), (200, 500)])
def test_intervals_cover_the_truth_as_often_as_they_say(items, trials):
    rng = np.random.default_rng(items)
    covered = 0
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


def test_a_better_system_is_named_and_the_comparison_is_symmetric(pairs):
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


def test_intervals_repeat_and_odd_settings_are_refused(pairs):
    measured = measure("wer", *pairs(50))
    assert interval(measured, seed=1) == interval(measured, seed=1)
    with pytest.raises(ConfigError, match="`resamples` must be at least 100"):
        interval(measured, resamples=5)
    with pytest.raises(ConfigError, match="`level` must be between 0 and 1"):
        interval(measured, level=95)
    with pytest.raises(ConfigError, match="`units` must name 50 items"):
        interval(measured, units=["a"])
