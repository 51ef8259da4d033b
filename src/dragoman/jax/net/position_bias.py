"""Relative positions in attention scores: a bias for each bucket of distances, perhaps gated.

Axes: batch, frames, tokens, size (tokens so far), heads, head_dim. References: T5, section 2.1,
https://arxiv.org/abs/1910.10683, in decoders; WavLM, section 3.1, https://arxiv.org/abs/2110.13900, in encoders.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.layers import NEVER, Embedding, Linear, param
from dragoman.spec import AttentionSpec, BucketBiasSpec


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Distances:
    """Vectors of distances, which the layers of disentangled attention share."""

    vectors: Float[Array, "distances width"]
    """A vector for each distance."""
    index: Int[Array, "q k"]
    """The index of the vector of each pair of frames."""


def buckets(frames: int, num_buckets: int, max_distance: int) -> Int[Array, "q k"]:
    """Return the bucket of each pair of frames; the upper half of the buckets is for keys after the query."""
    half = num_buckets // 2
    frame = jnp.arange(frames)
    distance = frame[None, :] - frame[:, None]
    return _bucket(jnp.abs(distance), half, max_distance) + (distance > 0) * half


def _bucket(distance: Int[Array, "q k"], count: int, max_distance: int) -> Int[Array, "q k"]:
    """Return the bucket, of `count`, of each distance: one each for short ones, logarithmic up to `max_distance`."""
    exact = count // 2
    share = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(max_distance / exact)
    log_bucket = jnp.minimum((exact + share * (count - exact)).astype(jnp.int32), count - 1)
    return jnp.where(distance < exact, distance, log_bucket)


class BucketBias(nnx.Module):
    """One learned bias per bucket and head, shared by all layers."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def __call__(self, frames: int) -> Float[Array, "heads q k"]:
        """Return the bias of each pair of frames."""
        index = buckets(frames, self.spec.num_buckets, self.spec.max_distance)
        return self.embed(index).transpose(2, 0, 1)  # [q, k, h] -> [h, q, k]


class CausalBucketBias(nnx.Module):
    """One learned bias per bucket and head, by distance to earlier tokens, shared by all layers of a decoder."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def __call__(
        self, count: int, start: Int[Array, ""] | int, size: int, mask: Bool[Array, "rows 1 tokens size"] | None
    ) -> Float[Array, "rows heads tokens size"]:
        """Return the bias of the scores of the `count` tokens from number `start` on; masked keys get the lowest."""
        back = jnp.maximum(start + jnp.arange(count)[:, None] - jnp.arange(size), 0)
        index = _bucket(back, self.spec.num_buckets, self.spec.max_distance)
        added = self.embed(index).transpose(2, 0, 1)[None]  # [q, k, h] -> [1, h, q, k]
        return added if mask is None else jnp.where(mask, added, NEVER)


class BiasGate(nnx.Module):
    """Scales the shared bias in one layer, per head and query, by a gate computed from the query's frame."""

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
        """Return the bias of the attention scores; masked keys get the lowest."""
        batch, frames, _ = states.shape
        heads = states.reshape(batch, frames, self.num_heads, -1).swapaxes(1, 2)  # [b, t, w] -> [b, h, t, d]
        gates = jax.nn.sigmoid(self.linear(heads).reshape(batch, self.num_heads, frames, 2, 4).sum(-1))
        first, second = gates[..., :1], gates[..., 1:]
        added = (first * (second * self.const[...] - 1.0) + 2.0) * bias
        return added if mask is None else jnp.where(mask, added, NEVER)
