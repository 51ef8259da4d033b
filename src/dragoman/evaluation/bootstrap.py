"""Intervals by the bootstrap, and whether two systems differ by more than chance.

Intervals are bias-corrected and accelerated (BCa): B. Efron, Better bootstrap confidence intervals, 1987. Differences
are tested by paired approximate randomisation: S. Riezler and J. T. Maxwell, On some pitfalls in automatic evaluation
and significance testing for MT, 2005.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from dragoman.errors import ConfigError
from dragoman.evaluation.metrics import Array, Measured

_CHUNK = 2_000_000  # numbers of one chunk of resampled counts


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A score and its interval; `low` and `high` are `None` for fewer than two units.

    Attributes:
        name: The metric.
        value: Its score on the corpus, a percentage.
        low: Lower end of the interval.
        high: Upper end.
        signature: How it was computed.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    signature: str

    def __str__(self) -> str:
        between = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{between}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of two systems on the same items.

    Attributes:
        name: The metric.
        difference: The first system's score minus the second's.
        low: Lower end of its interval.
        high: Upper end.
        p_value: Probability of a difference at least as large, in either direction, if the systems were equal.
        better: `"first"`, `"second"`, or `None` if `p_value` is 0.05 or more.
    """

    name: str
    difference: float
    low: float | None
    high: float | None
    p_value: float
    better: str | None


def interval(
    measured: Measured,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    units: Sequence[Any] | None = None,
) -> Figure:
    """Return a corpus's score with its interval.

    Args:
        measured: The statistics of the corpus.
        level: Probability that the interval covers the true score.
        resamples: Number of resampled corpora.
        seed: Of the resampling.
        units: What is resampled: a name for each item, such as its speaker; items of one name stay together. By default
            single items. As items of one speaker are alike, the interval over items is too narrow for new speakers.
    """
    _check(level, resamples)
    sums = _by_unit(measured.statistics, units)
    low, high = _bca(sums, measured.score, level, resamples, seed)
    return Figure(name=measured.name, value=measured.value(), low=low, high=high, signature=measured.signature)


def compare(
    first: Measured,
    second: Measured,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    units: Sequence[Any] | None = None,
) -> Comparison:
    """Compare two systems on the same items; the arguments are those of `interval`.

    Raises:
        ConfigError: If the two are of different metrics or numbers of items.
    """
    _check(level, resamples)
    if (first.name, first.signature, len(first.statistics)) != (second.name, second.signature, len(second.statistics)):
        raise ConfigError("Two systems can only be compared on the same items and by the same metric.")
    pair = np.stack([_by_unit(first.statistics, units), _by_unit(second.statistics, units)], axis=1)
    count, _, size = pair.shape

    def difference(sums: Array) -> Array:
        both = sums.reshape(*sums.shape[:-1], 2, size)
        return first.score(both[..., 0, :]) - first.score(both[..., 1, :])

    low, high = _bca(pair.reshape(count, 2 * size), difference, level, resamples, seed)
    observed = float(difference(pair.reshape(count, 2 * size).sum(axis=0)))
    # swapping the systems of an item is adding half its difference with the other sign
    half, middle = (pair[:, 0] - pair[:, 1]) / 2, pair.sum(axis=(0, 1)) / 2
    rng, at_once = np.random.default_rng([seed, 1]), max(1, _CHUNK // max(count, 1))
    sizes = [min(at_once, resamples - begin) for begin in range(0, resamples, at_once)]
    moved = np.concatenate([(2.0 * rng.integers(0, 2, size=(rows, count)) - 1) @ half for rows in sizes])
    swapped = difference(np.concatenate([middle + moved, middle - moved], axis=-1))
    extreme = int((np.abs(swapped) >= abs(observed) - 1e-9).sum())
    p_value = (extreme + 1) / (resamples + 1)
    first_wins = (observed < 0) == first.lower_is_better
    better = None if p_value >= 0.05 or observed == 0 else "first" if first_wins else "second"
    return Comparison(name=first.name, difference=observed, low=low, high=high, p_value=p_value, better=better)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"`level` must be between 0 and 1, but is {level!r}.")
    if resamples < 100:
        raise ConfigError(f"`resamples` must be at least 100, but is {resamples!r}.")


def _by_unit(statistics: Array, units: Sequence[Any] | None) -> Array:
    """Return the sums of the statistics of each unit, `[units, numbers]`."""
    if units is None:
        return statistics
    if len(units) != len(statistics):
        raise ConfigError(f"`units` must name {len(statistics)} items, but names {len(units)}.")
    _, numbers = np.unique([str(unit) for unit in units], return_inverse=True)
    sums = np.zeros((int(numbers.max(initial=-1)) + 1, statistics.shape[1]))
    np.add.at(sums, numbers, statistics)
    return sums


def _bca(sums: Array, score: Any, level: float, resamples: int, seed: int) -> tuple[float | None, float | None]:
    count = len(sums)
    if count < 2:
        return None, None
    total = sums.sum(axis=0)
    value = float(score(total))
    drawn = np.sort(score(_resampled(sums, resamples, np.random.default_rng(seed))))
    left_out = score(total - sums)
    spread = left_out.mean() - left_out
    variation = float((spread**2).sum())
    acceleration = float((spread**3).sum()) / (6 * variation**1.5) if variation > 0 else 0.0
    below = float((drawn < value - 1e-12).mean() + 0.5 * (np.abs(drawn - value) <= 1e-12).mean())
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / (resamples + 1)), resamples / (resamples + 1)))
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + _expanded(normal.inv_cdf(tail), count)
        place = normal.cdf(bias + shifted / max(1 - acceleration * shifted, 1e-6))
        ends.append(float(np.quantile(drawn, min(max(place, 0.0), 1.0))))
    return ends[0], ends[1]


def _expanded(normal: float, count: int) -> float:
    """Return Student's quantile for a normal one, times the root of n / (n - 1): resampled corpora vary too little.

    T. C. Hesterberg, What teachers should know about the bootstrap, 2015, section 3.3; Student's quantile by the first
    two terms of its expansion.
    """
    degrees = count - 1
    first = (normal**3 + normal) / (4 * degrees)
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / (96 * degrees**2)
    return (normal + first + second) * math.sqrt(count / degrees)


def _resampled(sums: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the sums of corpora of as many units, drawn with replacement, `[resamples, numbers]`."""
    count = len(sums)
    at_once = max(1, _CHUNK // count)
    found = []
    for first in range(0, resamples, at_once):
        rows = min(at_once, resamples - first)
        drawn = rng.integers(0, count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        found.append(times @ sums)
    return np.concatenate(found)


def rounded(value: float | None) -> float | None:
    """Return a number for JSON: finite, with four decimals."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
