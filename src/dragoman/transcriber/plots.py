"""Plots of windows, for debugging: waveform, segments, words and alignment.

One plot per window, which is what the model takes at once, so that memory use stays that of one window.
"""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dragoman._lazy import require
from dragoman.audio import SAMPLING_RATE
from dragoman.files import write_bytes
from dragoman.transcriber.decoded import Alignment
from dragoman.transcriber.result import Word
from dragoman.transcriber.segmenting import Examined

_INCHES_PER_SECOND = 1.1  # labels of short words do not overlap
_MAX_POINTS = 4000  # of a waveform; more cannot be seen

_INK, _SOUND, _SURE, _DOUBTFUL = "#1b2a33", "#5b7c8d", "#2a78a8", "#c4532d"


def plot_window(window: Examined, path: Path) -> Path:
    """Plot a window; the ending of the file sets the format: `.png`, `.svg` or `.pdf`.

    Above, the waveform with segments as bands and words as bars with their probabilities, those below one half in
    another colour. Below, the alignment matrix, bright where a token attends more than others do, with the path.

    Raises:
        DragomanError: If the file cannot be written.
        MissingDependencyError: If matplotlib is not installed.
    """
    figures = require("matplotlib.figure", "Plotting windows")
    seconds = len(window.samples) / SAMPLING_RATE
    rows = len(window.tokens) + 1 if window.alignment else 0
    height = 2.5 + 0.17 * rows
    figure = figures.Figure(figsize=(max(6.0, 1.5 + _INCHES_PER_SECOND * seconds), height + 0.6), layout="constrained")
    ratios = [2.5, 0.17 * rows] if rows else [2.5]
    upper, *lower = np.atleast_1d(figure.subplots(len(ratios), sharex=True, height_ratios=ratios)).tolist()
    _draw_sound(upper, window, seconds)
    if lower and window.alignment is not None:
        _draw_alignment(lower[0], window, window.alignment, seconds)
    figure.axes[-1].set_xlabel("seconds")
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # scripts without a font are drawn as boxes
        figure.savefig(content, format=path.suffix[1:], dpi=100)
    write_bytes(path, content.getvalue())
    return path


def _draw_sound(axes: Any, window: Examined, seconds: float) -> None:
    """Draw the envelope of the waveform, the segments as bands and the words as labelled bars."""
    step = max(len(window.samples) // _MAX_POINTS, 1)
    whole = window.samples[: len(window.samples) // step * step].reshape(-1, step)
    times = window.start + np.arange(len(whole)) * step / SAMPLING_RATE
    axes.fill_between(times, whole.min(axis=1), whole.max(axis=1), color=_SOUND, linewidth=0.5)
    loudest = max(float(np.abs(window.samples).max()), 1e-3)
    axes.set_ylim(-1.1 * loudest, 2.8 * loudest)
    axes.set_xlim(window.start, window.start + seconds)
    axes.set_yticks([])
    for segment in window.segments:
        axes.axvspan(segment.start, segment.end, color=_SOUND, alpha=0.15, linewidth=0)
        if not segment.words:
            _label(axes, segment.text, (segment.start + segment.end) / 2, 1.6 * loudest, _INK)
    for place, word in enumerate(word for segment in window.segments for word in segment.words):
        level = (1.3 if place % 2 else 2.05) * loudest
        axes.hlines(level - 0.12 * loudest, word.start, word.end, color=_colour(word), linewidth=3)
        _label(axes, f"{word.word.strip()}\n{word.probability:.0%}", (word.start + word.end) / 2, level, _colour(word))


def _draw_alignment(axes: Any, window: Examined, alignment: Alignment, seconds: float) -> None:
    matrix = alignment.matrix
    count = len(matrix)
    extent = (window.start, window.start + seconds, count - 0.5, -0.5)
    axes.imshow(matrix, aspect="auto", extent=extent, interpolation="nearest", cmap="viridis")
    ends = np.append(alignment.begins[1:], seconds)
    axes.stairs(
        np.arange(count),
        window.start + np.append(alignment.begins, ends[-1]),
        baseline=None,
        color="white",
        linewidth=1,
    )
    axes.set_yticks(range(count), [_plain(token) for token in window.tokens] + ["end"], fontsize=7)


def _colour(word: Word) -> str:
    return _SURE if word.probability >= 0.5 else _DOUBTFUL


def _label(axes: Any, text: str, x: float, y: float, colour: str) -> None:
    axes.text(x, y, _plain(text), ha="center", va="bottom", fontsize=7, color=colour, clip_on=True)


def _plain(text: str) -> str:
    """Return a text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")
