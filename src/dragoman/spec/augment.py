"""SpecAugment as values: which frames and channels of a batch are hidden in one training step.

The masks are drawn here, in NumPy and from an explicit generator, and handed to a model: both backends hide the same
spans for the same seed. Reference: https://arxiv.org/abs/1904.08779, and wav2vec 2.0, section 3.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from dragoman.spec import SpecAugmentSpec

__all__ = ["Masks", "draw_masks", "draw_spans"]

Array = np.ndarray


@dataclass(frozen=True)
class Masks:
    """What to hide, True = hidden; `None` hides nothing.

    Attributes:
        time: Frames that become the model's mask vector, `[batch, frames]`.
        channels: Channels that become zero over all frames of a row, `[batch, width]`.
    """

    time: Bool[Array, "batch frames"] | None = None
    channels: Bool[Array, "batch width"] | None = None


def draw_masks(
    spec: SpecAugmentSpec, lengths: "list[int] | Array", frames: int, width: int, random: np.random.Generator
) -> Masks:
    """Draw the masks of one training step.

    Args:
        spec: How much to hide.
        lengths: Valid frames of each row; spans stay within them.
        frames: Frames of the batch, padding included.
        width: Channels.
        random: Where randomness comes from.
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
    """Hide spans of equal length at random places.

    About `prob` of a row is hidden, less where spans overlap: `prob * length / span` of them, rounded up or down at
    random (the same way for the whole batch), but no fewer than `min_spans`. Starts are drawn without replacement. A
    row shorter than a span has nothing hidden, so that very short clips can be trained on.

    Args:
        lengths: Valid places of each row.
        size: Places of the batch.
        prob: Share of places that spans would hide if they did not overlap.
        span: Places that one span hides.
        min_spans: Least number of spans, where the row has room.
        random: Where randomness comes from.
    """
    mask = np.zeros((len(lengths), size), dtype=bool)
    rounding = random.random()
    for row, length in enumerate(lengths):
        starts = int(length) - span + 1  # places where a span can begin
        if starts < 1:
            continue
        count = max(int(prob * int(length) / span + rounding), min_spans)
        count = min(count, int(length) // span, starts)
        for start in random.choice(starts, size=count, replace=False):
            mask[row, start : start + span] = True
    return mask
