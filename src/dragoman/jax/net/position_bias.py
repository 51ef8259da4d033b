"""Relative position bias: tokens or frames look at each other by their distance, and perhaps by what they hold.

Axes: batch, frames, heads, head_dim. References: T5, section 2.1, https://arxiv.org/abs/1910.10683, of a decoder;
WavLM, section 3.1, https://arxiv.org/abs/2110.13900, of an encoder, with gates.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.layers import NEVER, Embedding, Linear, param
from dragoman.spec import AttentionSpec, BucketBiasSpec

__all__ = ["BiasGate", "BucketBias", "LookBackBias", "buckets"]


def buckets(frames: int, num_buckets: int, max_distance: int) -> Int[Array, "q k"]:
    """Return the bucket of each pair of frames; the upper half of the buckets is for what comes later."""
    half = num_buckets // 2
    place = jnp.arange(frames)
    distance = place[None, :] - place[:, None]
    return _bucket(jnp.abs(distance), half, max_distance) + (distance > 0) * half


def _bucket(apart: Int[Array, "q k"], count: int, max_distance: int) -> Int[Array, "q k"]:
    """Return the bucket, of `count`, of each distance: exact for near ones, logarithmic up to `max_distance`."""
    exact = count // 2
    share = jnp.log(jnp.maximum(apart, 1) / exact) / math.log(max_distance / exact)
    far = jnp.minimum((exact + share * (count - exact)).astype(jnp.int32), count - 1)
    return jnp.where(apart < exact, apart, far)


class BucketBias(nnx.Module):
    """One learned number a bucket and head, shared by all layers."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def __call__(self, frames: int) -> Float[Array, "heads q k"]:
        """Return the bias of each pair of frames."""
        index = buckets(frames, self.spec.num_buckets, self.spec.max_distance)
        return self.embed(index).transpose(2, 0, 1)  # [q, k, h] -> [h, q, k]


class LookBackBias(nnx.Module):
    """One learned number a bucket and head, by how far back a token looks, shared by all layers of a decoder."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def __call__(
        self,
        count: int,
        start: Int[Array, ""] | int,
        capacity: int,
        mask: Bool[Array, "rows 1 count capacity"] | None,
    ) -> Float[Array, "rows heads count capacity"]:
        """Return what to add to the scores of the `count` tokens from number `start` on; the lowest number where `mask`
        forbids looking.
        """
        back = jnp.maximum(start + jnp.arange(count)[:, None] - jnp.arange(capacity), 0)
        index = _bucket(back, self.spec.num_buckets, self.spec.max_distance)
        added = self.embed(index).transpose(2, 0, 1)[None]  # [q, k, h] -> [1, h, q, k]
        return added if mask is None else jnp.where(mask, added, NEVER)


class BiasGate(nnx.Module):
    """How strongly a layer lets the bias act, by what each head sees of the frame that looks."""

    def __init__(self, spec: AttentionSpec) -> None:
        self.num_heads = spec.num_heads
        self.const = param(1, spec.num_heads, 1, 1)
        self.linear = Linear(spec.head_dim, 8)

    def __call__(
        self,
        states: Float[Array, "batch frames width"],
        bias: Float[Array, "heads frames frames"],
        mask: Bool[Array, "..."] | None,
    ) -> Float[Array, "batch heads frames frames"]:
        """Return what to add to the attention scores; the lowest number where `mask` forbids looking."""
        batch, frames, _ = states.shape
        heads = states.reshape(batch, frames, self.num_heads, -1).swapaxes(1, 2)  # [b, t, w] -> [b, h, t, d]
        gates = jax.nn.sigmoid(self.linear(heads).reshape(batch, self.num_heads, frames, 2, 4).sum(-1))
        first, second = gates[..., :1], gates[..., 1:]
        added = (first * (second * self.const[...] - 1.0) + 2.0) * bias
        return added if mask is None else jnp.where(mask, added, NEVER)
