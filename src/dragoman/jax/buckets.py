"""Batches and waveforms are rounded up to few sizes, so that few programs serve a varied workload."""

from typing import Any

import numpy as np

from dragoman.jax.net.speech_encoder import SpeechEncoderNet
from dragoman.spec import Padding

_MIN_FRAMES = 50  # a second


def rounded(size: int, steps: int, least: int = 1) -> int:
    """Return the smallest allowed size that is at least `size`: `steps` sizes from each power of two to the next.

    Batches have two steps (1, 2, 3, 4, 6, 8, 12, 16, …), waveforms four (16,384, 20,480, 24,576, 28,672, 32,768, …).
    """
    size = max(size, least)
    step = max((1 << (max(size - 1, 1).bit_length() - 1)) // steps, 1)
    return -(-size // step) * step


def _padded_size(encoder: SpeechEncoderNet, size: int) -> int:
    """Return the size to pad audio of `size` samples to; where padding changes the output, `size` itself."""
    front = encoder.spec.frontend
    return rounded(size, 4, _MIN_FRAMES * front.hop) if _may_pad(encoder) else size


def _may_pad(encoder: SpeechEncoderNet) -> bool:
    """Return whether padding changes nothing; spectrograms come in few sizes already."""
    front = encoder.spec.frontend
    return front.masked and front.time_axis == 1 and encoder.padding is Padding.EXACT


def padded_frames(encoder: SpeechEncoderNet, inputs: Any) -> int:
    """Return the number of frames of audio that `pad_to_bucket` has padded."""
    spec = encoder.spec
    return int(spec.frame_lengths(_padded_size(encoder, inputs.shape[spec.frontend.time_axis])))


def pad_to_bucket(
    encoder: SpeechEncoderNet, inputs: Any, lengths: Any, rows: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Pad audio that `prepare` returned to one of the few sizes that programs are compiled for.

    Args:
        encoder: The encoder that gets it.
        inputs: The audio.
        lengths: Valid samples of each row; `None` if all are valid.
        rows: Rows to return; those beyond the batch are copies of the first.
    """
    inputs = np.asarray(inputs)
    if _may_pad(encoder):
        size = inputs.shape[1]
        lengths = np.full(inputs.shape[0], size) if lengths is None else np.asarray(lengths)
        more = _padded_size(encoder, size) - size
        inputs = np.pad(inputs, ((0, 0), (0, more), (0, 0))[: inputs.ndim])
    return fill_rows(inputs, rows), None if lengths is None else fill_rows(lengths.astype(np.int32), rows)


def fill_rows(array: Any, rows: int) -> Any:
    """Add copies of the first row up to `rows`; they end when it does, so they change nothing."""
    if array.shape[0] == rows:
        return array
    return np.concatenate([array, np.repeat(array[:1], rows - array.shape[0], axis=0)])
