"""The loss of sequence-to-sequence training.

Axes: batch, tokens, vocab.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dragoman.api.checks import IGNORED, check_id

__all__ = ["cross_entropy", "shift_right", "shifted_cross_entropy", "without_start"]


def cross_entropy(
    logits: Float[Tensor, "batch tokens vocab"],
    labels: Int[Tensor, "batch tokens"],
    num_items: Tensor | float | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Average the negative log-probability of the labels.

    Args:
        logits: Scores of each token at each position.
        labels: The right tokens; −100 is ignored.
        num_items: Divide the sum by this, e.g. the labels of all the batches of one optimizer step; by default by the
            number of labels here. A batch with nothing to learn from gives zero, with zero gradients.
        label_smoothing: Share of the target spread evenly over the vocabulary.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    if num_items is None:
        num_items = (labels != IGNORED).sum()
    return total / (num_items.clamp(min=1) if isinstance(num_items, Tensor) else max(num_items, 1))


def shifted_cross_entropy(logits: Tensor, labels: Tensor, num_items: Tensor | float | None = None) -> Tensor:
    """Average the loss of a plain language model, where position `t` predicts the label at `t + 1`."""
    return cross_entropy(logits[:, :-1], labels[:, 1:], num_items)


def without_start(labels: Int[Tensor, "batch tokens"], decoder_start_token_id: Any) -> Int[Tensor, "batch tokens"]:
    """Take a start id that every row begins with out of the labels; what follows moves up, and the end is ignored.

    The decoder reads the start id before the first label. A tokenizer that writes it as well would teach the model to
    write it twice.
    """
    if torch.compiler.is_compiling() or not isinstance(decoder_start_token_id, int) or labels.shape[1] < 2:
        return labels
    if not bool((labels[:, 0] == decoder_start_token_id).all()):
        return labels
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], dim=1)


def shift_right(
    labels: Int[Tensor, "batch tokens"], pad_token_id: Any, decoder_start_token_id: Any, vocab_size: int
) -> Int[Tensor, "batch tokens"]:
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
    start = torch.full_like(labels[:, :1], decoder_start_token_id)
    return torch.cat([start, labels[:, :-1]], dim=1).masked_fill(
        torch.cat([torch.zeros_like(start, dtype=torch.bool), labels[:, :-1] == IGNORED], dim=1), pad_token_id
    )
