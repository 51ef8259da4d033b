"""Draws follow the distribution (fixed seeds); filters (tests/parity compares them with `transformers`)."""

import itertools

import numpy as np
import pytest

from dragoman.generation.arrays import ops_of
from dragoman.generation.noise import utterance_keys
from dragoman.generation.sampling import draw, draw_without_replacement, epsilon, eta, min_p, top_k, top_p, typical

OPS = ops_of(np.zeros(1))
PROBS = np.array([0.4, 0.0, 0.3, 0.15, 0.1, 0.05])
with np.errstate(divide="ignore"):
    SCORES = np.log(PROBS).astype(np.float32)


def rows(scores: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return utterance_keys(OPS, seed, np.zeros((count, 1))), np.broadcast_to(scores, (count, len(scores)))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """The statistic in standard deviations above its mean."""
    freedom = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_draws_follow_the_distribution(seed: int) -> None:
    count = 50_000
    tokens = draw(OPS, *rows(SCORES + 3, count, seed))
    counts = np.bincount(tokens, minlength=6)
    assert counts[1] == 0
    there = PROBS > 0
    assert abs(chi_square(counts[there], PROBS[there] * count)) < 4


@pytest.mark.parametrize("seed", range(3))
def test_draws_without_replacement_follow_the_distribution_in_order(seed: int) -> None:
    count = 50_000
    values, found = draw_without_replacement(OPS, *rows(SCORES, count, seed), 2)
    np.testing.assert_array_equal(values, SCORES[found])
    tokens = [0, 2, 3, 4, 5]
    pairs = list(itertools.permutations(tokens, 2))
    expected = np.array([PROBS[a] * PROBS[b] / (1 - PROBS[a]) for a, b in pairs]) * count
    counts = np.array([((found[:, 0] == a) & (found[:, 1] == b)).sum() for a, b in pairs])
    assert counts.sum() == count
    assert abs(chi_square(counts, expected)) < 4


def test_draws_from_extreme_scores() -> None:
    one = np.array([-np.inf, 0.0, -np.inf], dtype=np.float32)
    assert set(draw(OPS, *rows(one, 1000, 0)).tolist()) == {1}
    large = np.array([1e30, 1e30, -1e30], dtype=np.float32)
    assert set(draw(OPS, *rows(large, 1000, 0)).tolist()) == {0, 1}


def kept(scores: np.ndarray) -> list[int]:
    return np.flatnonzero(scores[0] > -np.inf).tolist()


def test_tokens_kept_by_each_filter() -> None:
    scores = SCORES[None]
    assert kept(top_k(OPS, scores, 2)) == [0, 2]
    assert kept(top_p(OPS, scores, 0.65, 1)) == [0, 2]
    assert kept(top_p(OPS, scores, 0.75, 1)) == [0, 2, 3]
    assert kept(top_p(OPS, scores, 0.0, 1)) == [0]
    assert kept(top_p(OPS, scores, 0.0, 3)) == [0, 2, 3]
    assert kept(min_p(OPS, scores, 0.3, 1)) == [0, 2, 3]
    assert kept(epsilon(OPS, scores, 0.12, 1)) == [0, 2, 3]
    assert kept(epsilon(OPS, scores, 0.9, 2)) == [0, 2]
    entropy = -(PROBS[PROBS > 0] * np.log(PROBS[PROBS > 0])).sum()
    threshold = min(0.5, 0.5**0.5 * np.exp(-entropy))
    assert kept(eta(OPS, scores, 0.5, 1)) == [i for i, p in enumerate(PROBS) if p >= threshold]
    nearest = sorted((i for i in range(6) if PROBS[i] > 0), key=lambda i: abs(-np.log(PROBS[i]) - entropy))
    assert kept(typical(OPS, scores, 0.2, 1)) == nearest[:1]
    assert sorted(kept(typical(OPS, scores, 0.2, 3))) == sorted(nearest[:3])


def test_filters_may_keep_more_tokens_than_exist() -> None:
    scores = SCORES[None, [0, 2]]
    for filtered in (top_k(OPS, scores, 50), top_p(OPS, scores, 0.1, 5), min_p(OPS, scores, 0.99, 5)):
        np.testing.assert_array_equal(filtered, scores)
    np.testing.assert_array_equal(typical(OPS, scores, 0.1, 5), scores)
