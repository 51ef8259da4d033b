"""How loud it is from moment to moment, and where it is silent: for boundaries that attention only finds roughly.

Times are seconds; samples are at 16 kHz.
"""

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.waveform import Waveform

__all__ = ["settle"]

Array: TypeAlias = "np.ndarray[Any, Any]"

# All measured on synthetic speech with known word times: see docs/times.md.
_HOP = SAMPLING_RATE // 100
_DEPTH = 35.0  # decibels below the loud moments of a recording where silence begins
_LEAST_RANGE = 20.0  # decibels between loud and quiet moments; in noise that hides its pauses nothing is silent
_SHORTEST = 4  # hundredths of a second
_REACH = 0.1  # seconds that a boundary may move to a silence
_NEAR = 0.05  # seconds that it may move to a quiet moment, where there is no silence


def settle(boundaries: Array, waveform: Waveform) -> list[tuple[float, float]]:
    """Move boundaries between words to where it is quiet, and leave silence out of the words.

    A boundary in a silence, or no more than 0.1 s from one, becomes its two ends: the word before ends where it begins,
    the next word begins where it ends. Each silence takes the boundary that is nearest to it. Any other boundary moves
    to the quietest moment within 0.05 s.

    Args:
        boundaries: Between which moments each word begins, and the last one ends, in seconds `[words + 1, 2]`.
        waveform: The samples that they belong to.

    Returns:
        Start and end of each word: none is before the end of the word before, none outside the waveform.
    """
    duration = len(waveform) / SAMPLING_RATE
    boundaries = np.minimum(boundaries, duration)
    levels = _levels(waveform)
    silences = _silences(levels)
    chosen = _nearest(boundaries, silences)
    pairs = []
    for index, (low, high) in enumerate(boundaries.tolist()):
        if chosen[index] >= 0:
            start, end = silences[chosen[index]].tolist()
            pairs.append((start, min(end, duration)))
            continue
        first = round(max(low - _NEAR, boundaries[index - 1, 1] if index else 0.0) * 100)
        last = round(min(high + _NEAR, boundaries[index + 1, 0] if index + 1 < len(boundaries) else duration) * 100)
        near = levels[first : last + 1]
        moment = (first + int(near.argmin())) / 100 if len(near) else high
        pairs.append((min(moment, duration),) * 2)
    return _in_order(pairs)


def _nearest(boundaries: Array, silences: Array) -> Array:
    """Return the number of the silence that each boundary gets, -1 for none, int `[boundaries]`."""
    chosen = np.full(len(boundaries), -1)
    if len(silences):
        # [boundaries, silences]
        away = np.maximum(silences[:, 0] - boundaries[:, 1:], boundaries[:, :1] - silences[:, 1]).clip(min=0.0)
        # Of silences that are equally near, the longest.
        best = (away - 1e-3 * (silences[:, 1] - silences[:, 0])).argmin(axis=1)
        rows = np.arange(len(boundaries))
        ours = (away.argmin(axis=0)[best] == rows) & (away[rows, best] <= _REACH)
        chosen[ours] = best[ours]
    return chosen


def _in_order(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return each word's span from what the boundaries became: where the word before ends, where the next begins."""
    spans: list[tuple[float, float]] = []
    latest = 0.0
    for (_, start), (end, _) in pairwise(pairs):
        start = max(start, latest)
        latest = max(start, end)
        spans.append((start, latest))
    return spans


def _levels(waveform: Waveform) -> Array:
    """Return the level in decibels around each hundredth of a second."""
    squares = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    centres = np.arange(0, len(waveform) + 1, _HOP)
    low, high = np.maximum(centres - _HOP, 0), np.minimum(centres + _HOP, len(waveform))
    found: Array = 10 * np.log10((squares[high] - squares[low]) / np.maximum(high - low, 1) + 1e-10)
    return found


def _silences(levels: Array) -> Array:
    """Return where silences begin and end, in seconds `[silences, 2]`."""
    quiet, loud = np.percentile(levels, [5, 95])
    if loud - quiet < _LEAST_RANGE:
        return np.empty((0, 2))
    silent = levels < max(loud - _DEPTH, quiet + 0.3 * (loud - quiet))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]))).reshape(-1, 2)
    long = (edges[:, 1] - edges[:, 0] >= _SHORTEST) | (edges[:, 0] == 0) | (edges[:, 1] == len(levels))
    found: Array = edges[long] / 100
    return found
