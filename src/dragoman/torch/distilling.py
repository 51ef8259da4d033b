"""Distillation: a model learns what a larger one predicts, token by token.

Axes: batch, tokens, vocab.
"""

from jaxtyping import Float, Int
from torch import Tensor

from dragoman.api.checks import IGNORED


def divergence(
    logits: Float[Tensor, "batch tokens vocab"],
    teacher: Float[Tensor, "batch tokens vocab"],
    labels: Int[Tensor, "batch tokens"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the Kullback-Leibler divergence of a model from its teacher, summed over the labels.

    It is multiplied by the square of the temperature, so that gradients stay as large as those of the labels.

    Reference: G. Hinton et al., Distilling the Knowledge in a Neural Network, 2015.

    Args:
        logits: Scores of the model that learns.
        teacher: Scores of the teacher.
        labels: The target tokens; positions with −100 do not count.
        temperature: By which all scores are divided; a high one stresses the unlikely tokens.
    """
    kept = labels != IGNORED
    ours, theirs = ((scores[kept].float() / temperature).log_softmax(-1) for scores in (logits, teacher))
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum()
