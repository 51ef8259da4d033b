"""SpecAugment masks: which frames and channels of a batch are masked in one training step.

They are drawn in NumPy from an explicit generator and passed to the model, so both backends mask the same spans for the
same seed. Reference: https://arxiv.org/abs/1904.08779, and wav2vec 2.0, section 3.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from dragoman.spec import SpecAugmentSpec

Array = np.ndarray


@dataclass(frozen=True)
class Masks:
    """The masks of a batch, True = masked; `None` masks nothing."""

    time: Bool[Array, "batch frames"] | None = None
    """Frames that are replaced by the model's mask vector."""
    channels: Bool[Array, "batch width"] | None = None
    """Channels that are set to zero in all frames of a row."""


def draw_masks(
    spec: SpecAugmentSpec, lengths: "list[int] | Array", frames: int, width: int, random: np.random.Generator
) -> Masks:
    """Draw the masks of one training step.

    Args:
        spec: How much to mask.
        lengths: Valid frames of each row; spans stay within them.
        frames: Frames of the batch, padding included.
        width: Number of channels.
        random: Generator of the spans.
    """
    time = channels = None
    if spec.time_prob > 0:
        time = draw_spans(lengths, frames, spec.time_prob, spec.time_length, spec.time_min_masks, random)
    if spec.feature_prob > 0:
        full = [width] * len(lengths)
        channels = draw_spans(full, width, spec.feature_prob, spec.feature_length, spec.feature_min_masks, random)
    return Masks(time=time, channels=channels)


def draw_spans(
    lengths: "list[int] | Array", size: int, prob: float, span: int, min_spans: int, random: np.random.Generator
) -> Bool[Array, "batch size"]:
    """Draw spans of equal length at random positions, True inside them.

    Each row has `prob * length / span` spans, rounded up or down at random (the same way for the whole batch), but no
    fewer than `min_spans`. Starts are drawn without replacement, and spans may overlap. A row shorter than a span has
    none, so very short clips can be trained on.

    Args:
        lengths: Valid positions of each row.
        size: Positions of the batch.
        prob: Share of positions that the spans would cover if they did not overlap.
        span: Positions of one span.
        min_spans: Least number of spans, where the row has room.
        random: Generator of the starts.
    """
    mask = np.zeros((len(lengths), size), dtype=bool)
    rounding = random.random()
    for row, length in enumerate(lengths):
        starts = int(length) - span + 1  # positions where a span can begin
        if starts < 1:
            continue
        count = max(int(prob * int(length) / span + rounding), min_spans)
        count = min(count, int(length) // span, starts)
        for start in random.choice(starts, size=count, replace=False):
            mask[row, start : start + span] = True
    return mask
