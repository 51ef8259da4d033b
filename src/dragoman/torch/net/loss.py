"""The loss of sequence-to-sequence training.

Axes: batch, tokens, vocab.
"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dragoman.api.checks import IGNORED


def cross_entropy(
    logits: Float[Tensor, "batch tokens vocab"],
    labels: Int[Tensor, "batch tokens"],
    num_items: Tensor | float | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean negative log-probability of the labels.

    Args:
        logits: Scores of each token at each position.
        labels: The target tokens; −100 is ignored.
        num_items: Divide the sum by this, such as the labels of all batches of an optimizer step; by default by the
            number of labels here. Without labels the loss and its gradients are zero.
        label_smoothing: Share of the target distribution spread evenly over the vocabulary.
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
