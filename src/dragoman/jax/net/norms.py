"""Normalisation of channels, and of channels over time without padding.

Axes: batch, channels, frames, width.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from dragoman.jax.net.layers import frame_mask, param, shape_only, widened, zero_padding
from dragoman.spec import Norm, NormSpec


def standardise(states: Float[Array, "*rows width"], eps: float) -> Float[Array, "*rows width"]:
    """Shift and scale the last axis to zero mean and unit variance, in float32 or better."""
    x = widened(states)
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)


class LayerNorm(nnx.Module):
    """Normalise the last axis, in float32 or better."""

    def __init__(self, width: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        self.eps = eps
        self.weight, self.bias = param(width), param(width) if bias else None

    def __call__(self, states: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        scaled = standardise(states, self.eps) * self.weight[...]
        return (scaled if self.bias is None else scaled + self.bias[...]).astype(states.dtype)


class RMSNorm(nnx.Module):
    """Scale the last axis to mean square 1, in float32 or better (https://arxiv.org/abs/1910.07467).

    Its weight is stored as it is or, `from_one` (Gemma), minus 1.
    """

    def __init__(self, width: int, eps: float = 1e-6, *, from_one: bool = False) -> None:
        self.eps, self.from_one = eps, from_one
        self.weight = param(width)

    def __call__(self, states: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        x = widened(states)
        x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
        weight = self.weight[...]
        return (x * (1.0 + weight if self.from_one else weight)).astype(states.dtype)


def norm_of(spec: NormSpec, width: int) -> LayerNorm | RMSNorm:
    """Return a normalisation of the last axis."""
    if spec.kind is Norm.LAYER:
        return LayerNorm(width, spec.eps)
    if spec.kind is Norm.LAYER_WITHOUT_BIAS:
        return LayerNorm(width, spec.eps, bias=False)
    return RMSNorm(width, spec.eps, from_one=spec.kind is Norm.RMS_FROM_ONE)


class ChannelNorm(nnx.Module):
    """Normalise each channel over time: a group norm with one channel a group, over the valid frames only.

    `transformers` averages over padding too, so that a clip's result depends on its neighbours in the batch; without
    `lengths` this does the same. `together` all channels are one group.
    """

    def __init__(self, channels: int, eps: float = 1e-5, *, together: bool = False) -> None:
        self.eps, self.together = eps, together
        self.weight, self.bias = param(channels), param(channels)

    def __call__(
        self, features: Float[Array, "batch frames channels"], lengths: Int[Array, " batch"] | None
    ) -> Float[Array, "batch frames channels"]:
        """Normalise; frames beyond `lengths` do not count, and their output is undefined."""
        x = widened(features)
        mask = None if lengths is None else frame_mask(lengths, x.shape[1])
        axes = (1, 2) if self.together else (1,)
        count = x.shape[1] if lengths is None else lengths[:, None, None].astype(x.dtype)
        count = count * (x.shape[2] if self.together else 1)
        centred = x - zero_padding(x, mask).sum(axes, keepdims=True) / count
        variance = jnp.square(zero_padding(centred, mask)).sum(axes, keepdims=True) / count
        scale = self.weight[...] * lax.rsqrt(variance + self.eps)
        return (centred * scale + self.bias[...]).astype(features.dtype)


class StoredNorm(nnx.Module):
    """Batch normalisation by stored statistics, which training does not update."""

    def __init__(self, width: int) -> None:
        self.weight, self.bias = param(width), param(width)
        self.running_mean = nnx.BatchStat(shape_only((width,)))
        self.running_var = nnx.BatchStat(shape_only((width,)))
        self.num_batches_tracked = nnx.BatchStat(shape_only((), jnp.int32))

    def __call__(self, states: Float[Array, "batch frames width"]) -> Float[Array, "batch frames width"]:
        scale = self.weight[...] * jax.lax.rsqrt(self.running_var[...] + 1e-5)
        return ((states - self.running_mean[...]) * scale + self.bias[...]).astype(states.dtype)
