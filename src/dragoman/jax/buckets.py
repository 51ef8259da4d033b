"""Sizes that are compiled for: batches and waveforms are rounded up, so that few programs serve a varied workload."""

from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.spec import Padding

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["fill_rows", "pad_to_bucket", "rounded"]

_LEAST_FRAMES = 50  # a second


def rounded(size: int, steps: int, least: int = 1) -> int:
    """Return the smallest of the allowed sizes that is not below `size`: from each power of two to the next, `steps`.

    Batches have two steps (1, 2, 3, 4, 6, 8, 12, 16, …), waveforms four (16,384, 20,480, 24,576, 28,672, 32,768, …).
    """
    size = max(size, least)
    step = max((1 << (max(size - 1, 1).bit_length() - 1)) // steps, 1)
    return -(-size // step) * step


def pad_to_bucket(
    model: "FlaxSpeechEncoderDecoderModel", inputs: Any, lengths: Any, rows: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Round audio that `prepare` returned up to one of the few sizes that programs are compiled for.

    Args:
        model: The model; if its padding is not exact, or it hears spectrograms, their length stays as it is.
        inputs: The audio.
        lengths: What counts of each row; `None` if all does.
        rows: How many rows to make of it, those beyond the batch being copies of the first.
    """
    inputs = np.asarray(inputs)
    front = model.encoder.spec.frontend
    if front.masked and model.encoder.padding is Padding.EXACT:
        size = inputs.shape[1]
        lengths = np.full(inputs.shape[0], size) if lengths is None else np.asarray(lengths)
        more = rounded(size, 4, _LEAST_FRAMES * front.hop) - size
        inputs = np.pad(inputs, ((0, 0), (0, more), (0, 0))[: inputs.ndim])
    return fill_rows(inputs, rows), None if lengths is None else fill_rows(lengths.astype(np.int32), rows)


def fill_rows(array: Any, rows: int) -> Any:
    """Add copies of the first row up to `rows`: they begin, go on and end with it, and so change nothing."""
    return np.concatenate([array, np.repeat(array[:1], rows - array.shape[0], axis=0)])
