"""Squeezing: the stack runs at a lower frame rate than the front end, and its states are upsampled again; windows.

Axes: batch, frames, width. Reference: SEW, section 4.3, https://arxiv.org/abs/2109.06870.
"""

from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import ConvPositionSpec
from dragoman.torch.net.layers import ACTIVATIONS, Linear


def average(states: Float[Tensor, "batch frames width"], factor: int) -> Float[Tensor, "batch fewer width"]:
    """Return the mean of each `factor` frames; a remainder at the end is dropped."""
    fewer = states.shape[1] // factor
    return states[:, : fewer * factor].reshape(states.shape[0], fewer, factor, -1).mean(2)


class Upsample(nn.Module):
    """A projection of each state to several frames."""

    def __init__(self, spec: ConvPositionSpec, width: int) -> None:
        super().__init__()
        self.factor = spec.stride
        self.activation = ACTIVATIONS[spec.activation]
        self.proj = Linear(width, width * spec.stride)

    def forward(self, states: Float[Tensor, "batch fewer width"], frames: int) -> Float[Tensor, "batch frames width"]:
        """Return `frames` frames; those that `average` dropped are zero."""
        upsampled = self.activation(self.proj(states)).reshape(states.shape[0], -1, states.shape[2])
        return F.pad(upsampled, (0, 0, 0, frames - upsampled.shape[1]))


def windows_of(rows: Shaped[Tensor, "batch frames ..."], size: int) -> Shaped[Tensor, "windows size ..."]:
    """Cut rows into windows of `size` frames, the last one of each row padded with zeros."""
    more = -rows.shape[1] % size
    return F.pad(rows, (*(0, 0) * (rows.ndim - 2), 0, more)).reshape(-1, size, *rows.shape[2:])
