"""Disentangled attention: its scores also multiply queries and keys with learned vectors of their distance.

Axes: batch, frames, heads, head_dim, distances, width. Reference: DeBERTa, section 3.1, https://arxiv.org/abs/2006.03654;
buckets and shared projections: DeBERTa v3, section 3, https://arxiv.org/abs/2111.09543.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.block import FeedForward
from dragoman.jax.net.layers import NEVER, Embedding, Key, Linear, dropout, split
from dragoman.jax.net.norms import LayerNorm
from dragoman.jax.net.position_bias import Distances
from dragoman.jax.net.step import LayerInputs
from dragoman.spec import BlockSpec, DisentangledSpec


def distance_index(frames: int, spec: DisentangledSpec) -> Int[Array, "q k"]:
    """Return the index of the vector of each pair of frames; that of distance 0 is `span`.

    NumPy computes the buckets: in a compiled logarithm a distance at the edge of two may fall into the other.
    """
    distance = np.arange(1 - frames, frames)
    if spec.max_distance is not None:
        half = spec.span // 2
        farther = np.maximum(np.abs(distance), half).astype(np.float32)
        share = np.log(farther / half) / np.log(np.float32((spec.max_distance - 1) / half))
        bucket = (np.ceil(share * (half - 1)).astype(int) + half) * np.sign(distance)
        distance = np.where(np.abs(distance) <= half, distance, bucket)
    index = jnp.asarray(np.clip(distance + spec.span, 0, 2 * spec.span - 1))
    frame = jnp.arange(frames)
    return index[frame[:, None] - frame[None, :] + frames - 1]


class DistanceVectors(nnx.Module):
    """The vectors, which all layers share, normalised in some models."""

    def __init__(self, spec: BlockSpec, disentangled: DisentangledSpec) -> None:
        self.spec = disentangled
        self.embed = Embedding(2 * disentangled.span, spec.width)
        self.norm = LayerNorm(spec.width, spec.norm.eps) if disentangled.norm else None

    def __call__(self, frames: int) -> Distances:
        """Return the vectors of all distances between `frames` frames."""
        vectors = self.embed.weight[...]
        return Distances(vectors if self.norm is None else self.norm(vectors), distance_index(frames, self.spec))


class DisentangledAttention(nnx.Module):
    """Self-attention with scores of query and key, query and distance, and distance and key."""

    def __init__(self, spec: BlockSpec, disentangled: DisentangledSpec) -> None:
        self.num_heads, self.head_dim = spec.self_attn.num_heads, spec.self_attn.head_dim
        self.by_query, self.by_key = disentangled.by_query, disentangled.by_key
        self.dropout, self.vector_dropout = spec.self_attn.dropout, spec.dropout
        self.q_proj, self.k_proj = Linear(spec.width, spec.width), Linear(spec.width, spec.width)
        self.v_proj, self.out_proj = Linear(spec.width, spec.width), Linear(spec.width, spec.width)
        own = not disentangled.shared
        self.place_k_proj = Linear(spec.width, spec.width) if own and self.by_query else None
        self.place_q_proj = Linear(spec.width, spec.width) if own and self.by_key else None

    def _heads(self, x: Array) -> Array:
        # [b, t, w] -> [b, h, t, d]
        return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim).swapaxes(-3, -2)

    def __call__(
        self,
        states: Float[Array, "batch frames width"],
        mask: Bool[Array, "..."] | None,
        distances: Distances,
        key: Key = None,
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch heads frames frames"]]:
        """Attend to all frames; also return the attention weights."""
        vector_key, self_key = split(key, 2)
        queries, keys = self._heads(self.q_proj(states)), self._heads(self.k_proj(states))
        values = self._heads(self.v_proj(states))
        vectors = dropout(distances.vectors, self.vector_dropout, vector_key)
        index = jnp.broadcast_to(distances.index, (*queries.shape[:2], *distances.index.shape))
        scores = jnp.einsum("bhqd,bhkd->bhqk", queries, keys)
        if self.by_query:
            offsets = self._heads((self.place_k_proj or self.k_proj)(vectors))  # [h, p, d]
            scores = scores + jnp.take_along_axis(jnp.einsum("bhqd,hpd->bhqp", queries, offsets), index, axis=3)
        if self.by_key:
            offsets = self._heads((self.place_q_proj or self.q_proj)(vectors))
            by_key = jnp.einsum("bhkd,hpd->bhkp", keys, offsets)
            scores = scores + jnp.take_along_axis(by_key, index.swapaxes(2, 3), axis=3).swapaxes(2, 3)
        scores = (scores * (self.head_dim * (1 + self.by_query + self.by_key)) ** -0.5).astype(jnp.float32)
        if mask is not None:
            scores = jnp.where(mask, scores, NEVER)
        probs = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        out = jnp.einsum("bhqk,bhkd->bqhd", dropout(probs, self.dropout, self_key), values)
        return self.out_proj(out.reshape(states.shape)), probs


class DisentangledBlock(nnx.Module):
    """A layer of a `Stack`, in place of `Block`: attention and a feed-forward network, each added and normalised."""

    def __init__(self, spec: BlockSpec) -> None:
        assert isinstance(spec.kind, DisentangledSpec)
        self.spec = spec
        self.self_attn = DisentangledAttention(spec, spec.kind)
        self.self_attn_norm = LayerNorm(spec.width, spec.norm.eps)
        self.ffn, self.ffn_norm = FeedForward(spec.ffn, spec.width), LayerNorm(spec.width, spec.norm.eps)

    def __call__(
        self, index: int, states: Float[Array, "batch frames width"], inputs: LayerInputs
    ) -> tuple[Float[Array, "batch frames width"], None, Array | None, None]:
        """Return the new states and, if asked for, the attention weights; there are no cache and no cross-attention."""
        assert isinstance(inputs.bias, Distances)
        self_key, ffn_key, *keys = split(inputs.key, 4)
        out, probs = self.self_attn(states, inputs.mask, inputs.bias, self_key)
        states = self.self_attn_norm(states + dropout(out, self.spec.dropout, keys[0]))
        states = self.ffn_norm(states + dropout(self.ffn(states, ffn_key), self.spec.dropout, keys[1]))
        return states, None, probs if inputs.weights else None, None
