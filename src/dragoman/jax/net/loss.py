"""The loss of sequence-to-sequence training.

Axes: batch, tokens, vocab.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dragoman.api.checks import IGNORED


def cross_entropy(
    logits: Float[Array, "batch tokens vocab"],
    labels: Int[Array, "batch tokens"],
    num_items: Array | float | None = None,
    label_smoothing: float = 0.0,
) -> Float[Array, ""]:
    """Return the mean negative log-probability of the labels.

    Args:
        logits: Scores of each token at each position.
        labels: The target tokens; −100 is ignored.
        num_items: Divide the sum by this, such as the labels of all batches of an optimizer step; by default by the
            number of labels here. Without labels the loss and its gradients are zero.
        label_smoothing: Share of the target distribution spread evenly over the vocabulary.
    """
    valid = labels != IGNORED
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    target = jnp.take_along_axis(log_probs, jnp.where(valid, labels, 0)[..., None], axis=-1)[..., 0]
    if label_smoothing:
        target = (1.0 - label_smoothing) * target + label_smoothing * log_probs.mean(-1)
    total = -jnp.where(valid, target, 0.0).sum()
    return total / jnp.maximum(valid.sum() if num_items is None else num_items, 1)
