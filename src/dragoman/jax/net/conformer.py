"""The Conformer block: half a feed-forward network, attention that knows distances, a convolution, the other half.

Axes: batch, frames, heads, head_dim, width. Reference: https://arxiv.org/abs/2005.08100, section 2.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.block import FeedForward
from dragoman.jax.net.layers import (
    ACTIVATIONS,
    NEVER,
    Conv1d,
    Embedding,
    Key,
    LayerNorm,
    Linear,
    dropout,
    param,
    split,
    zero_padding,
)
from dragoman.jax.net.positions import StoredNorm
from dragoman.jax.net.rotary import Rotary
from dragoman.spec import AttentionSpec, BlockSpec, ConformerSpec, Distance

__all__ = [
    "ConformerAttention",
    "ConformerBlock",
    "Surroundings",
    "distances",
    "sinusoids_of_distances",
    "surroundings",
]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Surroundings:
    """What all layers of a stack share.

    Attributes:
        places: For `Distance.SINUSOID` sinusoids `[2 * frames - 1, width]` of the distances from `frames - 1` down,
            for `Distance.VECTOR` the number of the vector of each pair of frames.
        keep: The frames that a convolution may hear; `None` for all.
    """

    places: Array | None
    keep: Bool[Array, "batch frames"] | None


def surroundings(
    spec: ConformerSpec, states: Float[Array, "batch frames width"], keep: Bool[Array, "batch frames"] | None
) -> Surroundings:
    """Return what the layers share about frames of this number and width."""
    frames, width = states.shape[1:]
    if spec.distance is Distance.SINUSOID:
        return Surroundings(sinusoids_of_distances(frames, width).astype(states.dtype), keep)
    return Surroundings(distances(frames, *spec.reach) if spec.distance is Distance.VECTOR else None, keep)


def sinusoids_of_distances(frames: int, width: int) -> Float[Array, "distances width"]:
    """Return a row for each distance, from the first frame seen from the last one to the reverse; sines and cosines
    take turns (Transformer-XL, https://arxiv.org/abs/1901.02860, section 3.3).
    """
    place = jnp.arange(frames - 1, -frames, -1)
    frequencies = jnp.exp(jnp.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = place[:, None] * frequencies
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(2 * frames - 1, width)


def distances(frames: int, before: int, behind: int) -> Int[Array, "q k"]:
    """Return how far each frame lies behind the one that looks, no less than `-before` and no more than `behind`,
    counted from `-before` on (https://arxiv.org/abs/1803.02155, section 3.2).
    """
    place = jnp.arange(frames)
    return jnp.clip(place[None, :] - place[:, None], -before, behind) + before


class ConformerAttention(nnx.Module):
    """Self-attention whose scores also depend on the distance of the frames."""

    def __init__(self, spec: AttentionSpec, conformer: ConformerSpec) -> None:
        self.num_heads, self.head_dim, self.dropout = spec.num_heads, spec.head_dim, spec.dropout
        self.distance = conformer.distance
        self.q_proj, self.k_proj = Linear(spec.width, spec.width), Linear(spec.width, spec.width)
        self.v_proj, self.out_proj = Linear(spec.width, spec.width), Linear(spec.width, spec.width)
        if self.distance is Distance.SINUSOID:
            self.place_proj = Linear(spec.width, spec.width, bias=False)
            self.content_bias = param(spec.num_heads, spec.head_dim)
            self.place_bias = param(spec.num_heads, spec.head_dim)
        elif self.distance is Distance.VECTOR:
            self.vectors = Embedding(sum(conformer.reach) + 1, spec.head_dim)

    def _heads(self, x: Array) -> Array:
        # [b, t, w] -> [b, h, t, d]
        return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim).swapaxes(-3, -2)

    def __call__(
        self,
        states: Float[Array, "batch frames width"],
        mask: Bool[Array, "..."] | None,
        places: Array | None,
        rotary: Rotary | None,
        *,
        weights: bool = False,
        key: Key = None,
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch heads frames frames"] | None]:
        """Let the frames look at each other; rotary positions turn what queries and keys are made from."""
        turned = states if rotary is None else rotary(self._heads(states)).swapaxes(1, 2).reshape(states.shape)
        queries, keys = self._heads(self.q_proj(turned)), self._heads(self.k_proj(turned))
        values = self._heads(self.v_proj(states))
        bias: Array | float = 0.0
        if self.distance is Distance.SINUSOID and places is not None:
            offsets = self._heads(self.place_proj(places))  # [h, 2 t - 1, d]
            asking = queries + self.place_bias[...][:, None]
            bias = _by_key(jnp.einsum("bhqd,hpd->bhqp", asking, offsets))
            queries = queries + self.content_bias[...][:, None]
        elif self.distance is Distance.VECTOR and places is not None:
            by_vector = jnp.einsum("bhqd,pd->bhqp", queries, self.vectors.weight[...])
            bias = jnp.take_along_axis(by_vector, jnp.broadcast_to(places, (*queries.shape[:2], *places.shape)), axis=3)
        scores = ((jnp.einsum("bhqd,bhkd->bhqk", queries, keys) + bias) * self.head_dim**-0.5).astype(jnp.float32)
        if mask is not None:
            scores = jnp.where(mask, scores, NEVER)
        probs = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        mixed = jnp.einsum("bhqk,bhkd->bqhd", dropout(probs, self.dropout, key), values)
        return self.out_proj(mixed.reshape(states.shape)), probs if weights else None


def _by_key(scores: Float[Array, "batch heads frames distances"]) -> Float[Array, "batch heads frames frames"]:
    """Turn scores by distance into scores by key: row `q` is read from distance `q` on, down to `q - frames + 1`."""
    batch, heads, frames, _ = scores.shape
    # With one column more, the place of (q, k) in the flat matrix is t + q (2 t - 1) + k: rows of 2 t - 1 from t on.
    flat = jnp.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0))).reshape(batch, heads, -1)[..., frames:]
    return flat.reshape(batch, heads, frames, 2 * frames - 1)[..., :frames]


class ConvModule(nnx.Module):
    """A gate, a convolution of each channel on its own, a normalisation and a non-linearity."""

    def __init__(self, spec: BlockSpec, conformer: ConformerSpec) -> None:
        width, kernel = spec.width, conformer.kernel
        self.activation, self.dropout = ACTIVATIONS[spec.ffn.activation], conformer.dropout
        self.pads = (kernel - 1, 0) if conformer.causal else (kernel // 2, kernel // 2)
        self.norm = LayerNorm(width, conformer.norm_eps)
        self.in_conv = Conv1d(width, 2 * width, 1, bias=False)
        self.depth_conv = Conv1d(width, width, kernel, groups=width, bias=False)
        self.depth_norm = LayerNorm(width, conformer.norm_eps) if conformer.causal else StoredNorm(width)
        self.out_conv = Conv1d(width, width, 1, bias=False)

    def __call__(
        self,
        states: Float[Array, "batch frames width"],
        keep: Bool[Array, "batch frames"] | None,
        key: Key = None,
    ) -> Float[Array, "batch frames width"]:
        """Convolve; frames not kept sound like the silence before and behind a clip."""
        x = jax.nn.glu(self.in_conv(zero_padding(self.norm(states), keep)), axis=-1)
        x = self.depth_norm(self.depth_conv(jnp.pad(x, ((0, 0), self.pads, (0, 0)))))
        return dropout(self.out_conv(self.activation(x)), self.dropout, key)


class ConformerBlock(nnx.Module):
    """One layer, in the place of a `Block`."""

    def __init__(self, spec: BlockSpec) -> None:
        conformer = spec.kind
        assert isinstance(conformer, ConformerSpec)
        self.spec = spec
        width, eps = spec.width, conformer.norm_eps
        self.ffn1_norm, self.ffn1 = LayerNorm(width, eps), FeedForward(spec.ffn, width)
        self.self_attn_norm, self.self_attn = LayerNorm(width, eps), ConformerAttention(spec.self_attn, conformer)
        self.conv = ConvModule(spec, conformer)
        self.ffn2_norm, self.ffn2 = LayerNorm(width, eps), FeedForward(spec.ffn, width)
        self.final_norm = LayerNorm(width, eps)

    def __call__(
        self,
        index: int,
        states: Float[Array, "batch frames width"],
        mask: Bool[Array, "..."] | None,
        causal: bool,
        memory: None,
        cache: None,
        weights: bool,
        bias: Surroundings,
        rotary: Rotary | None,
        key: Key = None,
    ) -> tuple[Array, None, Array | None, None]:
        """Return the new states and, if `weights`, the attention weights; a Conformer neither writes nor looks across.

        `bias` is what `surroundings` gave.
        """
        first_key, look_key, conv_key, second_key, *drop = split(key, 7)
        rate = self.spec.dropout
        states = states + 0.5 * dropout(self.ffn1(self.ffn1_norm(states), first_key), rate, drop[0])
        own = self.self_attn_norm(states)
        mixed, probs = self.self_attn(own, mask, bias.places, rotary, weights=weights, key=look_key)
        states = states + dropout(mixed, self.spec.self_attn.dropout, drop[1])
        states = states + self.conv(states, bias.keep, conv_key)
        states = states + 0.5 * dropout(self.ffn2(self.ffn2_norm(states), second_key), rate, drop[2])
        return self.final_norm(states), None, probs, None
