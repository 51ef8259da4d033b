"""Vocabularies that grow or shrink."""

import torch
from torch import Tensor, nn

__all__ = ["resized"]


def resized(old: Tensor, rows: int) -> nn.Parameter:
    """Return a parameter with the first `rows` rows of `old`; new ones are drawn close to the average row.

    A new row is the average plus a little of the old rows' spread, so that new tokens are plausible but not equal (J.
    Hewitt, Initializing New Word Embeddings for Pretrained Language Models, 2021).
    """
    kept = old.detach()[:rows]
    more = rows - kept.shape[0]
    if more > 0:
        exact = old.detach().double()
        average = exact.mean(0, keepdim=True)
        # random mixtures of the centred rows have the rows' own covariance
        mixtures = torch.randn(more, len(exact), dtype=torch.float64, device=old.device) @ (exact - average)
        new = average + 1e-5 * mixtures / len(exact) ** 0.5
        kept = torch.cat([kept, new.to(old.dtype)])
    return nn.Parameter(kept.clone(), requires_grad=old.requires_grad)
