"""The loss of sequence-to-sequence training.

Axes: batch, tokens, vocab.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dragoman.api.checks import IGNORED

__all__ = ["cross_entropy"]


def cross_entropy(
    logits: Float[Array, "batch tokens vocab"],
    labels: Int[Array, "batch tokens"],
    num_items: Array | float | None = None,
    label_smoothing: float = 0.0,
) -> Float[Array, ""]:
    """Average the negative log-probability of the labels.

    Args:
        logits: Scores of each token at each position.
        labels: The right tokens; −100 is ignored.
        num_items: Divide the sum by this, e.g. the labels of all the batches of one optimizer step; by default by the
            number of labels here. A batch with nothing to learn from gives zero, with zero gradients.
        label_smoothing: Share of the target spread evenly over the vocabulary.
    """
    counts = labels != IGNORED
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    right = jnp.take_along_axis(log_probs, jnp.where(counts, labels, 0)[..., None], axis=-1)[..., 0]
    if label_smoothing:
        right = (1.0 - label_smoothing) * right + label_smoothing * log_probs.mean(-1)
    total = -jnp.where(counts, right, 0.0).sum()
    return total / jnp.maximum(counts.sum() if num_items is None else num_items, 1)
