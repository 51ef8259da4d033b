"""Convolutional adapters, which shorten the memory of a speech encoder.

Axes: batch, frames, width.
"""

import jax
from flax import nnx
from jaxtyping import Array, Float

from dragoman.jax.net.attention import Attention
from dragoman.jax.net.block import FeedForward
from dragoman.jax.net.layers import Conv1d, Key, Lengths, Linear, dropout, frame_mask, split, zero_padding
from dragoman.jax.net.norms import LayerNorm
from dragoman.spec import BlockSpec, ConvAdapterSpec


class ConvAdapter(nnx.Module):
    """Gated strided convolutions, after a projection where the widths differ (XLS-R, section 4.2)."""

    def __init__(self, spec: ConvAdapterSpec, width: int) -> None:
        self.spec = spec
        projects = spec.width != width
        self.proj = Linear(width, spec.width) if projects else None
        self.norm = LayerNorm(spec.width) if projects else None
        self.layers = nnx.List(_conv(spec) for _ in range(spec.num_layers))

    def __call__(
        self, states: Float[Array, "batch frames width"], lengths: Lengths, *, mask_padding: bool, key: Key = None
    ) -> Float[Array, "batch frames_out width_out"]:
        """Shorten; frames beyond `lengths` are zero at each convolution, as they are at the edge of a single clip.

        With `mask_padding=False` they are not masked, which is what `transformers` does. `key` is not used.
        """
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for conv in self.layers:
            if lengths is not None and mask_padding:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = self.spec.shortened(lengths)
            states = _shortened(conv, states)
        return states


class AttentiveLayer(nnx.Module):
    """Gated convolutions that shorten the residual and the input of attention, then a feed-forward network."""

    def __init__(self, spec: ConvAdapterSpec, block: BlockSpec) -> None:
        self.spec, self.block = spec, block
        self.residual_norm, self.residual_conv = LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn_norm, self.self_attn_conv = LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn = Attention(block.self_attn)
        self.ffn_norm, self.ffn = LayerNorm(spec.width, block.norm.eps), FeedForward(block.ffn, block.width)

    def __call__(
        self, states: Float[Array, "batch frames width"], lengths: Lengths, *, mask_padding: bool, key: Key = None
    ) -> tuple[Float[Array, "batch fewer width"], Lengths]:
        """Return the new states and their lengths; see `ConvAdapter`."""
        keep = None if lengths is None or not mask_padding else frame_mask(lengths, states.shape[1])
        residual = _shortened(self.residual_conv, zero_padding(self.residual_norm(states), keep))
        own = _shortened(self.self_attn_conv, zero_padding(self.self_attn_norm(states), keep))
        mask = None
        if lengths is not None:
            lengths = self.spec.shortened(lengths)
            mask = frame_mask(lengths, own.shape[1])[:, None, None]
        attn_key, out_key, ffn_key, last_key = split(key, 4)
        out, _ = self.self_attn(own, self.self_attn.project(own), mask, key=attn_key)
        states = residual + dropout(out, self.spec.dropout, out_key)
        inner = self.ffn(self.ffn_norm(states), ffn_key)
        return states + dropout(inner, self.block.dropout, last_key), lengths


class AttentiveAdapter(nnx.Module):
    """Attentive layers after half a feed-forward network and a projection, where there are such.

    Reference: the length adapter of https://arxiv.org/abs/2312.05187, section 3.2.1.
    """

    def __init__(self, spec: ConvAdapterSpec, block: BlockSpec, width: int) -> None:
        projects = spec.width != width
        self.first_ffn = FeedForward(spec.first_ffn, width) if spec.first_ffn else None
        self.proj = Linear(width, spec.width) if projects else None
        self.norm = LayerNorm(spec.width, block.norm.eps) if projects else None
        self.layers = nnx.List(AttentiveLayer(spec, block) for _ in range(spec.num_layers))

    def __call__(
        self, states: Float[Array, "batch frames width"], lengths: Lengths, *, mask_padding: bool, key: Key = None
    ) -> Float[Array, "batch frames_out width_out"]:
        """Shorten; see `ConvAdapter`."""
        first_key, *keys = split(key, 1 + len(self.layers))
        if self.first_ffn is not None:
            states = states + 0.5 * self.first_ffn(states, first_key)
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for layer, layer_key in zip(self.layers, keys, strict=True):
            states, lengths = layer(states, lengths, mask_padding=mask_padding, key=layer_key)
        return states


def _conv(spec: ConvAdapterSpec) -> Conv1d:
    return Conv1d(spec.width, 2 * spec.width, spec.kernel, spec.stride, padding=spec.padding)


def _shortened(conv: Conv1d, states: Array) -> Array:
    return jax.nn.glu(conv(states), axis=-1)


def adapter_of(spec: ConvAdapterSpec, width: int) -> ConvAdapter | AttentiveAdapter:
    """Build the adapter that a spec describes, after a stack of width `width`."""
    return ConvAdapter(spec, width) if spec.block is None else AttentiveAdapter(spec, spec.block, width)
