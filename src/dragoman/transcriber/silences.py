"""Moves the boundaries of words, which attention finds only roughly, to silences and quiet moments.

Times are in seconds; samples are at 16 kHz.
"""

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.waveform import Waveform

Array: TypeAlias = "np.ndarray[Any, Any]"

# All tuned on synthetic speech with known word times: see docs/times.md.
_HOP = SAMPLING_RATE // 100
_SILENCE_DEPTH = 35.0  # decibels below the loud moments of a window
_MIN_RANGE = 20.0  # decibels between loud and quiet moments; in noise that hides its pauses nothing is silent
_MIN_SILENCE = 4  # hundredths of a second
_MAX_MOVE = 0.1  # seconds that a boundary may move to a silence
_MAX_MOVE_WITHOUT_SILENCE = 0.05  # seconds that it may move to a quiet moment, where there is no silence


def snap_to_silences(boundaries: Array, waveform: Waveform) -> list[tuple[float, float]]:
    """Return the start and end of words whose boundaries are known roughly, without the silence between them.

    A boundary in a silence, or at most 0.1 s from one, becomes its two ends: the word before ends at its start, the
    next word begins at its end. Each silence takes the boundary nearest to it. Any other boundary moves to the quietest
    moment within 0.05 s.

    Args:
        boundaries: The interval in which each word begins, and that in which the last one ends, in seconds
            `[words + 1, 2]`.
        waveform: The samples of the window.

    Returns:
        Start and end of each word, in order, not overlapping, inside the waveform.
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
        first = round(max(low - _MAX_MOVE_WITHOUT_SILENCE, boundaries[index - 1, 1] if index else 0.0) * 100)
        last = round(
            min(high + _MAX_MOVE_WITHOUT_SILENCE, boundaries[index + 1, 0] if index + 1 < len(boundaries) else duration)
            * 100
        )
        near = levels[first : last + 1]
        moment = (first + int(near.argmin())) / 100 if len(near) else high
        pairs.append((min(moment, duration),) * 2)
    return _in_order(pairs)


def pauses(waveform: Waveform, shortest: float) -> list[float]:
    """Return the middle of each silence of a minimum length in a window, in seconds."""
    return [(start + end) / 2 for start, end in _silences(_levels(waveform)).tolist() if end - start >= shortest]


def _nearest(boundaries: Array, silences: Array) -> Array:
    """Return the index of the silence that takes each boundary, -1 for none, int `[boundaries]`."""
    chosen = np.full(len(boundaries), -1)
    if len(silences):
        # [boundaries, silences]
        away = np.maximum(silences[:, 0] - boundaries[:, 1:], boundaries[:, :1] - silences[:, 1]).clip(min=0.0)
        # Of equally near silences, the longest.
        best = (away - 1e-3 * (silences[:, 1] - silences[:, 0])).argmin(axis=1)
        rows = np.arange(len(boundaries))
        ours = (away.argmin(axis=0)[best] == rows) & (away[rows, best] <= _MAX_MOVE)
        chosen[ours] = best[ours]
    return chosen


def _in_order(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the span of each word from the pairs (end of the word before, start of the next word)."""
    spans: list[tuple[float, float]] = []
    latest = 0.0
    for (_, start), (end, _) in pairwise(pairs):
        start = max(start, latest)
        latest = max(start, end)
        spans.append((start, latest))
    return spans


def _levels(waveform: Waveform) -> Array:
    """Return the level in decibels at each hundredth of a second."""
    squares = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    centres = np.arange(0, len(waveform) + 1, _HOP)
    low, high = np.maximum(centres - _HOP, 0), np.minimum(centres + _HOP, len(waveform))
    found: Array = 10 * np.log10((squares[high] - squares[low]) / np.maximum(high - low, 1) + 1e-10)
    return found


def _silences(levels: Array) -> Array:
    """Return the start and end of silences, in seconds `[silences, 2]`."""
    quiet, loud = np.percentile(levels, [5, 95])
    if loud - quiet < _MIN_RANGE:
        return np.empty((0, 2))
    silent = levels < max(loud - _SILENCE_DEPTH, quiet + 0.3 * (loud - quiet))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]))).reshape(-1, 2)
    long = (edges[:, 1] - edges[:, 0] >= _MIN_SILENCE) | (edges[:, 0] == 0) | (edges[:, 1] == len(levels))
    found: Array = edges[long] / 100
    return found
