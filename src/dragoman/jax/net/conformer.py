"""The Conformer block: half a feed-forward network, attention by distance, a convolution, the other half.

Axes: batch, frames, heads, head_dim, width. Reference: https://arxiv.org/abs/2005.08100, section 2.
"""

import math

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
    Linear,
    dropout,
    param,
    split,
    zero_padding,
)
from dragoman.jax.net.norms import LayerNorm, StoredNorm
from dragoman.jax.net.step import LayerInputs
from dragoman.spec import AttentionSpec, BlockSpec, ConformerSpec, Distance


def relative_positions(spec: ConformerSpec, states: Float[Array, "batch frames width"]) -> Array | None:
    """Return what all layers read about the distances between frames.

    Returns:
        For `Distance.SINUSOID` sinusoids `[2 * frames - 1, width]` of the distances from `frames - 1` down; for
        `Distance.VECTOR` the index of the vector of each pair of frames, `[frames, frames]`.
    """
    frames, width = states.shape[1:]
    if spec.distance is Distance.SINUSOID:
        return sinusoids_of_distances(frames, width).astype(states.dtype)
    return distances(frames, *spec.reach) if spec.distance is Distance.VECTOR else None


def sinusoids_of_distances(frames: int, width: int) -> Float[Array, "distances width"]:
    """Return sines and cosines, interleaved, of each distance from `frames - 1` down to `1 - frames`.

    Reference: Transformer-XL, https://arxiv.org/abs/1901.02860, section 3.3.
    """
    distance = jnp.arange(frames - 1, -frames, -1)
    frequencies = jnp.exp(jnp.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = distance[:, None] * frequencies
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(2 * frames - 1, width)


def distances(frames: int, before: int, after: int) -> Int[Array, "q k"]:
    """Return the distance from each query's frame to each key's, limited to `-before` to `after` and counted from
    `-before` on (https://arxiv.org/abs/1803.02155, section 3.2).
    """
    index = jnp.arange(frames)
    return jnp.clip(index[None, :] - index[:, None], -before, after) + before


class ConformerAttention(nnx.Module):
    """Self-attention whose scores also depend on the distance between frames."""

    def __init__(self, spec: AttentionSpec, conformer: ConformerSpec) -> None:
        self.num_heads, self.head_dim, self.dropout = spec.num_heads, spec.head_dim, spec.dropout
        self.distance = conformer.distance
        width, bias = spec.width, spec.qkv_bias
        self.q_proj, self.k_proj = Linear(width, width, bias=bias), Linear(width, width, bias=bias)
        self.v_proj, self.out_proj = Linear(width, width, bias=bias), Linear(width, width, bias=bias)
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
        self, states: Float[Array, "batch frames width"], inputs: LayerInputs, key: Key = None
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch heads frames frames"] | None]:
        """Attend to all frames; rotary positions rotate the input of the projections to queries and keys."""
        mask, rotary, positions = inputs.mask, inputs.rotary, inputs.bias
        rotated = states if rotary is None else rotary(self._heads(states)).swapaxes(1, 2).reshape(states.shape)
        queries, keys = self._heads(self.q_proj(rotated)), self._heads(self.k_proj(rotated))
        values = self._heads(self.v_proj(states))
        bias: Array | float = 0.0
        if self.distance is Distance.SINUSOID and isinstance(positions, Array):
            offsets = self._heads(self.place_proj(positions))  # [h, 2 t - 1, d]
            biased = queries + self.place_bias[...][:, None]
            bias = _by_key(jnp.einsum("bhqd,hpd->bhqp", biased, offsets))
            queries = queries + self.content_bias[...][:, None]
        elif self.distance is Distance.VECTOR and isinstance(positions, Array):
            by_vector = jnp.einsum("bhqd,pd->bhqp", queries, self.vectors.weight[...])
            bias = jnp.take_along_axis(
                by_vector, jnp.broadcast_to(positions, (*queries.shape[:2], *positions.shape)), axis=3
            )
        scores = ((jnp.einsum("bhqd,bhkd->bhqk", queries, keys) + bias) * self.head_dim**-0.5).astype(jnp.float32)
        if mask is not None:
            scores = jnp.where(mask, scores, NEVER)
        probs = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        out = jnp.einsum("bhqk,bhkd->bqhd", dropout(probs, self.dropout, key), values)
        return self.out_proj(out.reshape(states.shape)), probs if inputs.weights else None


def _by_key(scores: Float[Array, "batch heads frames distances"]) -> Float[Array, "batch heads frames frames"]:
    """Return scores by key from scores by distance: query `q` reads distances `q` down to `q - frames + 1`."""
    batch, heads, frames, _ = scores.shape
    # With one more column, (q, k) is at t + q (2 t - 1) + k of the flat matrix: rows of 2 t - 1, from t on.
    flat = jnp.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0))).reshape(batch, heads, -1)[..., frames:]
    return flat.reshape(batch, heads, frames, 2 * frames - 1)[..., :frames]


class ConvModule(nnx.Module):
    """A gated projection, a depthwise convolution, a norm, a non-linearity and a projection."""

    def __init__(self, spec: BlockSpec, conformer: ConformerSpec) -> None:
        width, kernel = spec.width, conformer.kernel
        self.activation, self.dropout = ACTIVATIONS[spec.ffn.activation], conformer.dropout
        self.pads = (kernel - 1, 0) if conformer.causal else (kernel // 2, kernel // 2)
        self.norm = LayerNorm(width, conformer.norm_eps)
        self.in_conv = Conv1d(width, 2 * width, 1, bias=conformer.bias)
        self.depth_conv = Conv1d(width, width, kernel, groups=width, bias=conformer.bias)
        self.depth_norm = LayerNorm(width, conformer.norm_eps) if conformer.causal else StoredNorm(width)
        self.out_conv = Conv1d(width, width, 1, bias=conformer.bias)

    def __call__(
        self,
        states: Float[Array, "batch frames width"],
        frame_mask: Bool[Array, "batch frames"] | None,
        key: Key = None,
    ) -> Float[Array, "batch frames width"]:
        """Convolve; frames outside the mask are zero, as beyond the ends of a clip."""
        x = zero_padding(jax.nn.glu(self.in_conv(self.norm(states)), axis=-1), frame_mask)  # biases fill padding
        x = self.depth_norm(self.depth_conv(jnp.pad(x, ((0, 0), self.pads, (0, 0)))))
        return dropout(self.out_conv(self.activation(x)), self.dropout, key)


class ConformerBlock(nnx.Module):
    """A layer of a `Stack`, in place of `Block`."""

    def __init__(self, spec: BlockSpec) -> None:
        conformer = spec.kind
        assert isinstance(conformer, ConformerSpec)
        self.spec, self.attn_dropout = spec, conformer.attn_dropout
        width, eps = spec.width, conformer.norm_eps
        self.ffn1_norm, self.ffn1 = LayerNorm(width, eps), FeedForward(spec.ffn, width)
        self.self_attn_norm, self.self_attn = LayerNorm(width, eps), ConformerAttention(spec.self_attn, conformer)
        self.conv = ConvModule(spec, conformer)
        self.ffn2_norm, self.ffn2 = LayerNorm(width, eps), FeedForward(spec.ffn, width)
        self.final_norm = LayerNorm(width, eps)

    def __call__(
        self, index: int, states: Float[Array, "batch frames width"], inputs: LayerInputs
    ) -> tuple[Float[Array, "batch frames width"], None, Array | None, None]:
        """Return the new states and, if asked for, the attention weights; there are no cache and no cross-attention."""
        first_key, self_key, conv_key, second_key, *keys = split(inputs.key, 7)
        rate = self.spec.dropout
        states = states + 0.5 * dropout(self.ffn1(self.ffn1_norm(states), first_key), rate, keys[0])
        out, probs = self.self_attn(self.self_attn_norm(states), inputs, self_key)
        states = states + dropout(out, self.attn_dropout, keys[1])
        states = states + self.conv(states, inputs.frame_mask, conv_key)
        states = states + 0.5 * dropout(self.ffn2(self.ffn2_norm(states), second_key), rate, keys[2])
        return self.final_norm(states), None, probs, None
