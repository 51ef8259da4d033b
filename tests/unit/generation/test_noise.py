"""Statistics with fixed seeds: each test draws the same numbers in every run."""

import numpy as np
import pytest

from dragoman.errors import GenerationError
from dragoman.generation.arrays import ops_of
from dragoman.generation.noise import fold, gumbel, sample_keys, uniform, utterance_keys

OPS = ops_of(np.zeros(1))


def keys(count: int, seed: int = 0) -> np.ndarray:
    return utterance_keys(OPS, seed, np.zeros((count, 1), dtype=np.int64))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """The statistic in standard deviations above its mean."""
    freedom = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5)


@pytest.mark.parametrize("seed", [0, 1, 2, 123456789, -5, 2**63])
def test_uniform_numbers_are_uniform(seed: int) -> None:
    numbers = uniform(OPS, keys(100_000, seed))
    assert numbers.dtype == np.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    assert abs(chi_square(counts, np.full(100, 1000.0))) < 4


def test_numbers_of_neighbouring_rows_steps_and_samples_are_independent() -> None:
    rows = keys(20_000)
    first, second = uniform(OPS, fold(OPS, rows, 7)), uniform(OPS, fold(OPS, rows, 8))
    samples = uniform(OPS, sample_keys(OPS, rows, 2)).reshape(-1, 2)
    for a, b in [(first, second), (first[1:], first[:-1]), (samples[:, 0], samples[:, 1])]:
        table, _, _ = np.histogram2d(a, b, bins=10, range=[(0, 1), (0, 1)])
        assert abs(chi_square(table.ravel(), np.full(100, len(a) / 100))) < 4


def test_gumbel_numbers_follow_the_gumbel_distribution() -> None:
    numbers = gumbel(OPS, keys(50), 4000).ravel().astype(np.float64)
    assert np.isfinite(numbers).all()
    counts, _ = np.histogram(np.exp(-np.exp(-numbers)), bins=200, range=(0, 1))
    assert abs(chi_square(counts, np.full(200, 1000.0))) < 4
    great = numbers[numbers > 4]
    assert len(np.unique(great)) > 0.99 * len(great) > 3000  # finely spaced at the top


def test_seed_per_utterance_does_not_depend_on_its_place() -> None:
    prompt = np.zeros((3, 1), dtype=np.int64)
    one = utterance_keys(OPS, [5, 6, 7], prompt)
    assert utterance_keys(OPS, [7, 5, 6], prompt).tolist() == one[[2, 0, 1]].tolist()
    assert len(set(one.tolist())) == 3
    assert utterance_keys(OPS, np.int64(3), prompt).tolist() == utterance_keys(OPS, 3, prompt).tolist()


def test_wrong_number_of_seeds_is_refused() -> None:
    with pytest.raises(GenerationError, match="one for each of the 3 utterances, but has 2"):
        utterance_keys(OPS, [1, 2], np.zeros((3, 1)))


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_all_array_libraries_draw_the_same_numbers(library: str) -> None:
    xp = pytest.importorskip(library, reason=f"needs {library}")
    theirs = ops_of(xp.zeros(1))
    prompt = xp.zeros((50, 1))
    assert np.asarray(utterance_keys(theirs, 9, prompt)).tolist() == keys(50, 9).tolist()
    expected = gumbel(OPS, keys(50, 9), 100)
    np.testing.assert_allclose(
        np.asarray(gumbel(theirs, utterance_keys(theirs, 9, prompt), 100)), expected, rtol=2e-5, atol=1e-6
    )
    assert np.asarray(uniform(theirs, utterance_keys(theirs, 9, prompt))).tolist() == uniform(OPS, keys(50, 9)).tolist()
