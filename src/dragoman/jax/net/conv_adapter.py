"""Adapters, which shorten the memory of a speech encoder: convolutions, or averages.

Axes: batch, frames, width.
"""

from typing import TypeAlias

import jax
from flax import nnx
from jaxtyping import Array, Float

from dragoman.jax.net.attention import Attention
from dragoman.jax.net.block import FeedForward
from dragoman.jax.net.layers import Conv1d, Key, Lengths, Linear, dropout, frame_mask, split, zero_padding
from dragoman.jax.net.norms import LayerNorm
from dragoman.jax.net.squeeze import average
from dragoman.spec import BlockSpec, ConvAdapterSpec, PoolSpec

States: TypeAlias = Float[Array, "batch frames width"]
Fewer: TypeAlias = Float[Array, "batch frames_out width_out"]


class AttentiveLayer(nnx.Module):
    """Gated convolutions that shorten the residual and the input of attention, then a feed-forward network."""

    def __init__(self, spec: ConvAdapterSpec, block: BlockSpec) -> None:
        self.spec, self.block = spec, block
        self.residual_norm, self.residual_conv = LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn_norm, self.self_attn_conv = LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn = Attention(block.self_attn)
        self.ffn_norm, self.ffn = LayerNorm(spec.width, block.norm.eps), FeedForward(block.ffn, block.width)

    def __call__(
        self, states: States, lengths: Lengths, *, mask_padding: bool, key: Key = None
    ) -> tuple[Fewer, Lengths]:
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


class ConvAdapter(nnx.Module):
    """Gated strided convolutions, or attentive layers, after a projection where the widths differ.

    References: XLS-R, section 4.2; https://arxiv.org/abs/2312.05187, section 3.2.1, for attentive layers, which follow
    half a feed-forward network.
    """

    def __init__(self, spec: ConvAdapterSpec, width: int) -> None:
        self.spec, block, projects = spec, spec.block, spec.width != width
        self.first_ffn = FeedForward(spec.first_ffn, width) if spec.first_ffn else None
        self.proj = Linear(width, spec.width) if projects else None
        self.norm = LayerNorm(spec.width, block.norm.eps if block else 1e-5) if projects else None
        self.layers = nnx.List(AttentiveLayer(spec, block) if block else _conv(spec) for _ in range(spec.num_layers))

    def __call__(self, states: States, lengths: Lengths, *, mask_padding: bool, key: Key = None) -> Fewer:
        """Shorten; frames beyond `lengths` are zero at each convolution, as they are at the edge of a single clip.

        With `mask_padding=False` they are not masked, which is what `transformers` does.
        """
        first_key, *keys = split(key, 1 + len(self.layers))
        if self.first_ffn is not None:
            states = states + 0.5 * self.first_ffn(states, first_key)
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for layer, layer_key in zip(self.layers, keys, strict=True):
            if isinstance(layer, AttentiveLayer):
                states, lengths = layer(states, lengths, mask_padding=mask_padding, key=layer_key)
                continue
            if lengths is not None and mask_padding:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = self.spec.shortened(lengths)
            states = _shortened(layer, states)
        return states


class Pool(nnx.Module):
    """Averages of neighbouring states, then a norm."""

    def __init__(self, spec: PoolSpec) -> None:
        self.stride, self.norm = spec.stride, LayerNorm(spec.width)

    def __call__(self, states: States, lengths: Lengths, *, mask_padding: bool, key: Key = None) -> Fewer:
        """Shorten; no average that counts has padding in it. `key` is not used."""
        return self.norm(average(states, self.stride))


def _conv(spec: ConvAdapterSpec) -> Conv1d:
    return Conv1d(spec.width, 2 * spec.width, spec.kernel, spec.stride, padding=spec.padding)


def _shortened(conv: Conv1d, states: Array) -> Array:
    return jax.nn.glu(conv(states), axis=-1)


def adapter_of(spec: ConvAdapterSpec | PoolSpec, width: int) -> ConvAdapter | Pool:
    """Build the adapter that a spec describes, after a stack of width `width`."""
    return Pool(spec) if isinstance(spec, PoolSpec) else ConvAdapter(spec, width)
