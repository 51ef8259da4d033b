"""The loss of sequence-to-sequence training.

Axes: batch, tokens, vocab.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dragoman.errors import ConfigError

__all__ = ["IGNORED", "checked_labels", "cross_entropy", "shift_right", "shifted_cross_entropy", "without_start"]

IGNORED = -100  # labels that do not count


def checked_labels(labels: Any) -> Int[Tensor, "batch tokens"]:
    """Return labels of any whole-number type as PyTorch's losses want them.

    Raises:
        ConfigError: If they are no tensor of whole numbers, one row a clip.
    """
    if not isinstance(labels, Tensor):
        kind = type(labels).__name__
        raise ConfigError(f'`labels` must be a tensor, but is a {kind}; pass return_tensors="pt" to the tokenizer.')
    if labels.ndim != 2 or labels.is_floating_point() or labels.is_complex():
        raise ConfigError(
            f"`labels` must be whole numbers of the shape [batch, tokens], but have the shape {list(labels.shape)} and "
            f"the type {str(labels.dtype).removeprefix('torch.')}."
        )
    return labels.long()


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
        num_items = (labels != IGNORED).sum().clamp(min=1)
    return total / num_items


def shifted_cross_entropy(logits: Tensor, labels: Tensor, num_items: Tensor | float | None = None) -> Tensor:
    """Average the loss of a plain language model, where position `t` predicts the label at `t + 1`."""
    return cross_entropy(logits[:, :-1], labels[:, 1:], num_items)


def without_start(
    labels: Int[Tensor, "batch tokens"], decoder_start_token_id: int | None
) -> Int[Tensor, "batch tokens"]:
    """Take a start id that every row begins with out of the labels; what follows moves up, and the end is ignored.

    The decoder reads the start id before the first label. A tokenizer that writes it as well would teach the model to
    write it twice.
    """
    if torch.compiler.is_compiling() or decoder_start_token_id is None or labels.shape[1] < 2:
        return labels
    if not bool((labels[:, 0] == decoder_start_token_id).all()):
        return labels
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)], dim=1)


def shift_right(
    labels: Int[Tensor, "batch tokens"], pad_token_id: int | None, decoder_start_token_id: int | None, vocab_size: int
) -> Int[Tensor, "batch tokens"]:
    """Return the decoder's input for these labels: the start id, then the labels without the last.

    Args:
        labels: The right tokens; −100 is ignored and becomes padding.
        pad_token_id: What ignored positions become.
        decoder_start_token_id: What a text starts with.
        vocab_size: Labels must be smaller.

    Raises:
        ConfigError: If an id is not set, or a label is out of range.
    """
    if decoder_start_token_id is None:
        raise ConfigError(
            "No start token is set. Make sure to set the decoder_start_token_id attribute of the model's "
            "configuration, for instance: model.config.decoder_start_token_id = tokenizer.cls_token_id."
        )
    if pad_token_id is None:
        raise ConfigError(
            "No padding token is set. Make sure to set the pad_token_id attribute of the model's configuration, "
            "for instance: model.config.pad_token_id = tokenizer.pad_token_id."
        )
    if not torch.compiler.is_compiling():
        wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= vocab_size))]
        if wrong.numel():
            raise ConfigError(
                f"Labels must be from 0 to {vocab_size - 1}, or {IGNORED} to be ignored, but {int(wrong[0])} is "
                f"among them. "
                "Use the decoder's own tokenizer, or model.resize_token_embeddings(len(tokenizer))."
            )
    start = torch.full_like(labels[:, :1], decoder_start_token_id)
    return torch.cat([start, labels[:, :-1]], dim=1).masked_fill(
        torch.cat([torch.zeros_like(start, dtype=torch.bool), labels[:, :-1] == IGNORED], dim=1), pad_token_id
    )
