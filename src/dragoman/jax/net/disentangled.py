"""Disentangled attention: queries and keys look at each other, and each at vectors of the distance between them.

Axes: batch, frames, heads, head_dim, distances, width. Reference: DeBERTa, section 3.1, https://arxiv.org/abs/2006.03654;
buckets and shared projections: version 3, section 3, https://arxiv.org/abs/2111.09543.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.block import FeedForward
from dragoman.jax.net.layers import NEVER, Embedding, Key, LayerNorm, Linear, dropout, split
from dragoman.jax.net.rotary import Rotary
from dragoman.spec import BlockSpec, DisentangledSpec

__all__ = ["DisentangledBlock", "DistanceVectors", "Distances", "distance_index"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Distances:
    """What all layers share: a vector for each distance, and which one is between each pair of frames."""

    vectors: Float[Array, "distances width"]
    index: Int[Array, "q k"]


def distance_index(frames: int, spec: DisentangledSpec) -> Int[Array, "q k"]:
    """Return the number of the vector for each pair of frames; `span` is that of a frame and itself.

    The buckets are NumPy's: in a compiled logarithm the edge of a bucket may fall to the other side.
    """
    distance = np.arange(1 - frames, frames)
    if spec.max_distance is not None:
        half = spec.span // 2
        apart = np.maximum(np.abs(distance), half).astype(np.float32)
        share = np.log(apart / half) / np.log(np.float32((spec.max_distance - 1) / half))
        far = (np.ceil(share * (half - 1)).astype(int) + half) * np.sign(distance)
        distance = np.where(np.abs(distance) <= half, distance, far)
    number = jnp.asarray(np.clip(distance + spec.span, 0, 2 * spec.span - 1))
    place = jnp.arange(frames)
    return number[place[:, None] - place[None, :] + frames - 1]


class DistanceVectors(nnx.Module):
    """The vectors, normalised where the model was trained so."""

    def __init__(self, spec: BlockSpec, disentangled: DisentangledSpec) -> None:
        self.spec = disentangled
        self.embed = Embedding(2 * disentangled.span, spec.width)
        self.norm = LayerNorm(spec.width, spec.norm.eps) if disentangled.norm else None

    def __call__(self, frames: int) -> Distances:
        """Return what the layers share about so many frames."""
        vectors = self.embed.weight[...]
        return Distances(vectors if self.norm is None else self.norm(vectors), distance_index(frames, self.spec))


class DisentangledAttention(nnx.Module):
    """Self-attention whose scores are sums: content with content, content with distance, distance with content."""

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
        """Let the frames look at each other; also return the attention weights."""
        vector_key, look_key = split(key, 2)
        queries, keys = self._heads(self.q_proj(states)), self._heads(self.k_proj(states))
        values = self._heads(self.v_proj(states))
        vectors = dropout(distances.vectors, self.vector_dropout, vector_key)
        index = jnp.broadcast_to(distances.index, (*queries.shape[:2], *distances.index.shape))
        scores = jnp.einsum("bhqd,bhkd->bhqk", queries, keys)
        if self.by_query:
            places = self._heads((self.place_k_proj or self.k_proj)(vectors))  # [h, p, d]
            scores = scores + jnp.take_along_axis(jnp.einsum("bhqd,hpd->bhqp", queries, places), index, axis=3)
        if self.by_key:
            places = self._heads((self.place_q_proj or self.q_proj)(vectors))
            by_key = jnp.einsum("bhkd,hpd->bhkp", keys, places)
            scores = scores + jnp.take_along_axis(by_key, index.swapaxes(2, 3), axis=3).swapaxes(2, 3)
        scores = (scores * (self.head_dim * (1 + self.by_query + self.by_key)) ** -0.5).astype(jnp.float32)
        if mask is not None:
            scores = jnp.where(mask, scores, NEVER)
        probs = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        mixed = jnp.einsum("bhqk,bhkd->bqhd", dropout(probs, self.dropout, look_key), values)
        return self.out_proj(mixed.reshape(states.shape)), probs


class DisentangledBlock(nnx.Module):
    """One layer, in the place of a `Block`: attention, then feed-forward, each added and normalised."""

    def __init__(self, spec: BlockSpec) -> None:
        assert isinstance(spec.kind, DisentangledSpec)
        self.spec = spec
        self.self_attn = DisentangledAttention(spec, spec.kind)
        self.self_attn_norm = LayerNorm(spec.width, spec.norm.eps)
        self.ffn, self.ffn_norm = FeedForward(spec.ffn, spec.width), LayerNorm(spec.width, spec.norm.eps)

    def __call__(
        self,
        index: int,
        states: Float[Array, "batch frames width"],
        mask: Bool[Array, "..."] | None,
        causal: bool,
        memory: None,
        cache: None,
        weights: bool,
        bias: Distances,
        rotary: Rotary | None,
        key: Key = None,
    ) -> tuple[Array, None, Array | None, None]:
        """Return the new states and, if `weights`, the attention weights; `bias` is what `DistanceVectors` gave."""
        look_key, ffn_key, *drop = split(key, 4)
        mixed, probs = self.self_attn(states, mask, bias, look_key)
        states = self.self_attn_norm(states + dropout(mixed, self.spec.dropout, drop[0]))
        states = self.ffn_norm(states + dropout(self.ffn(states, ffn_key), self.spec.dropout, drop[1]))
        return states, None, probs if weights else None, None
