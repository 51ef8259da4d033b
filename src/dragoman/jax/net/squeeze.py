"""Squeezing: the stack runs at a lower frame rate than the front end, and its states are upsampled again; windows.

Axes: batch, frames, width. Reference: SEW, section 4.3, https://arxiv.org/abs/2109.06870.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Shaped

from dragoman.jax.net.layers import ACTIVATIONS, Linear
from dragoman.spec import ConvPositionSpec


def average(states: Float[Array, "batch frames width"], factor: int) -> Float[Array, "batch fewer width"]:
    """Return the mean of each `factor` frames; a remainder at the end is dropped."""
    batch, frames, width = states.shape
    fewer = frames // factor
    return states[:, : fewer * factor].reshape(batch, fewer, factor, width).mean(2)


class Upsample(nnx.Module):
    """A projection of each state to several frames."""

    def __init__(self, spec: ConvPositionSpec, width: int) -> None:
        self.factor = spec.stride
        self.activation = ACTIVATIONS[spec.activation]
        self.proj = Linear(width, width * spec.stride)

    def __call__(self, states: Float[Array, "batch fewer width"], frames: int) -> Float[Array, "batch frames width"]:
        """Return `frames` frames; those that `average` dropped are zero."""
        upsampled = self.activation(self.proj(states)).reshape(states.shape[0], -1, states.shape[2])
        return jnp.pad(upsampled, ((0, 0), (0, frames - upsampled.shape[1]), (0, 0)))


def windows_of(rows: Shaped[Array, "batch frames ..."], size: int) -> Shaped[Array, "windows size ..."]:
    """Cut rows into windows of `size` frames, the last one of each row padded with zeros."""
    more = ((0, 0), (0, -rows.shape[1] % size), *((0, 0) for _ in rows.shape[2:]))
    return jnp.pad(rows, more).reshape(-1, size, *rows.shape[2:])
