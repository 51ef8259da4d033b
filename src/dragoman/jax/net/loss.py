"""The loss of sequence-to-sequence training.

Axes: batch, tokens, vocab.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dragoman.api.checks import IGNORED, check_id

__all__ = ["cross_entropy", "shift_right", "shifted_cross_entropy", "without_start"]


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


def shifted_cross_entropy(logits: Array, labels: Array, num_items: Array | float | None = None) -> Array:
    """Average the loss of a plain language model, where position `t` predicts the label at `t + 1`."""
    return cross_entropy(logits[:, :-1], labels[:, 1:], num_items)


def without_start(labels: Int[Array, "batch tokens"], decoder_start_token_id: Any) -> Int[Array, "batch tokens"]:
    """Take a start id that every row begins with out of the labels; what follows moves up, and the end is ignored.

    The decoder reads the start id before the first label. A tokenizer that writes it as well would teach the model to
    write it twice.
    """
    if not isinstance(decoder_start_token_id, int) or labels.shape[1] < 2:
        return labels
    xp, labels = _library(labels)
    moved = xp.concatenate([labels[:, 1:], xp.full_like(labels[:, :1], IGNORED)], axis=1)
    return cast(Array, xp.where((labels[:, 0] == decoder_start_token_id).all(), moved, labels))


def shift_right(
    labels: Int[Array, "batch tokens"], pad_token_id: Any, decoder_start_token_id: Any, vocab_size: int
) -> Int[Array, "batch tokens"]:
    """Return the decoder's input for these labels: the start id, then the labels without the last.

    Args:
        labels: The right tokens; −100 is ignored and becomes padding.
        pad_token_id: What ignored positions become.
        decoder_start_token_id: What a text starts with.
        vocab_size: The ids must be smaller.

    Raises:
        ConfigError: If an id is not set or not in the vocabulary.
    """
    check_id("decoder_start_token_id", decoder_start_token_id, vocab_size)
    check_id("pad_token_id", pad_token_id, vocab_size)
    xp, labels = _library(labels)
    start = xp.full_like(labels[:, :1], decoder_start_token_id)
    shifted = xp.where(labels[:, :-1] == IGNORED, pad_token_id, labels[:, :-1])
    return cast(Array, xp.concatenate([start, shifted], axis=1))


def _library(labels: Any) -> tuple[Any, Any]:
    """Return what to work on labels with: JAX if they are traced, else NumPy, for which nothing is compiled."""
    return (jnp, labels) if isinstance(labels, jax.core.Tracer) else (np, np.asarray(labels))
