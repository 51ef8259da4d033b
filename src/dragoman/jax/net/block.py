"""The Transformer block that every family shares, and the stack of them.

Axes: rows, tokens (or frames), width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.attention import Attention
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.layers import ACTIVATIONS, Key, LayerNorm, Linear, RMSNorm, dropout, norm_of, param, split
from dragoman.jax.net.rotary import Rotary, rotary_for
from dragoman.spec import BlockSpec, FeedForwardSpec, NormOrder, StackSpec

__all__ = ["Block", "FeedForward", "Stack", "StackOutput"]


class FeedForward(nnx.Module):
    """Two linear layers around a non-linearity, perhaps with a gate: another layer gives what the inner one is
    multiplied by (https://arxiv.org/abs/2002.05202).
    """

    def __init__(self, spec: FeedForwardSpec, width: int) -> None:
        self.activation, self.dropout = ACTIVATIONS[spec.activation], spec.dropout
        self.in_proj = Linear(width, spec.width, bias=spec.bias)
        self.gate_proj = Linear(width, spec.width, bias=spec.bias) if spec.gated else None
        self.out_proj = Linear(spec.width, width, bias=spec.bias)

    def __call__(self, states: Float[Array, "*rows width"], key: Key = None) -> Float[Array, "*rows width"]:
        """Transform each position on its own."""
        inner = self.in_proj(states, key)
        gate = self.gate_proj
        inner = self.activation(inner) if gate is None else self.activation(gate(states, key)) * inner
        return self.out_proj(dropout(inner, self.dropout, key), key)


class Bottleneck(nnx.Module):
    """A narrow residual network behind a block, one per language (MMS, https://arxiv.org/abs/2305.13516)."""

    def __init__(self, width: int, narrow: int) -> None:
        self.norm = LayerNorm(width)
        self.in_proj = Linear(width, narrow)
        self.out_proj = Linear(narrow, width)

    def __call__(self, states: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        """Transform each position on its own."""
        return self.out_proj(jax.nn.relu(self.in_proj(self.norm(states))))


class Block(nnx.Module):
    """Self-attention, cross-attention if asked for, feed-forward; each residual, normalised before or after."""

    def __init__(self, spec: BlockSpec) -> None:
        self.spec = spec
        self.self_attn = Attention(spec.self_attn)
        self.self_attn_norm = norm_of(spec.norm, spec.width)
        if spec.cross_attn is not None:
            self.cross_attn = Attention(spec.self_attn, spec.cross_attn)
            self.cross_attn_norm = norm_of(spec.norm, spec.width)
            self.cross_attn_gate = param(1) if spec.cross_attn.gated else None
        self.ffn = FeedForward(spec.ffn, spec.width)
        slots = spec.norm_order.slots
        self.ffn_norm = None if slots.shared else norm_of(spec.norm, spec.width)
        self.self_attn_post_norm = norm_of(spec.norm, spec.width) if slots.branch else None
        self.ffn_post_norm = norm_of(spec.norm, spec.width) if slots.branch else None
        self.bottleneck = Bottleneck(spec.width, spec.bottleneck) if spec.bottleneck else None

    def __call__(
        self,
        index: int,
        states: Float[Array, "rows tokens width"],
        mask: Bool[Array, "..."] | None,
        causal: bool,
        memory: Memory | None,
        cache: Cache | None,
        weights: bool,
        bias: Float[Array, "heads tokens tokens"] | None,
        rotary: Rotary | None,
        key: Key = None,
    ) -> tuple[Array, Cache | None, Array | None, Array | None]:
        """Return the new states, the new cache and, if `weights`, the self- and cross-attention weights."""
        crosses = self.spec.cross_attn is not None and memory is not None
        cross_weights = None
        look_key, cross_key, ffn_key, *drop = split(key, 6)
        look = (mask, causal, cache, weights, bias, rotary, look_key)
        if crosses and self.cross_attn_gate is not None:
            asks = self.cross_attn_norm(states)
            mixed, cross_weights = self._cross_attention(index, asks, memory, weights, cross_key)
            states = states + jnp.tanh(self.cross_attn_gate[...]) * self._drop(mixed, drop[1])
            crosses = False
        if self.spec.norm_order is NormOrder.POST:
            mixed, cache, self_weights = self._self_attention(index, states, *look)
            states = self.self_attn_norm(states + self._drop(mixed, drop[0]))
            if crosses:
                mixed, cross_weights = self._cross_attention(index, states, memory, weights, cross_key)
                states = self.cross_attn_norm(states + self._drop(mixed, drop[1]))
            assert self.ffn_norm is not None
            states = self.ffn_norm(states + self._drop(self.ffn(states, ffn_key), drop[2]))
        else:
            own = self.self_attn_norm(states)
            mixed, cache, self_weights = self._self_attention(index, own, *look)
            before, states = states, states + self._drop(mixed, drop[0], self.self_attn_post_norm)
            if crosses:
                asks = self.cross_attn_norm(states)
                mixed, cross_weights = self._cross_attention(index, asks, memory, weights, cross_key)
                states = states + self._drop(mixed, drop[1])
            if self.ffn_norm is not None:
                own = self.ffn_norm(before if self.spec.norm_order is NormOrder.PARALLEL else states)
            states = states + self._drop(self.ffn(own, ffn_key), drop[2], self.ffn_post_norm)
        if self.bottleneck is not None:
            states = states + self.bottleneck(states)
        return states, cache, self_weights, cross_weights

    def _drop(self, states: Array, key: Key, norm: LayerNorm | RMSNorm | None = None) -> Array:
        """Return what a residual connection adds: normalised if there is a `norm`, in training not all of it."""
        return dropout(states if norm is None else norm(states), self.spec.dropout, key)

    def _self_attention(
        self,
        index: int,
        states: Array,
        mask: Array | None,
        causal: bool,
        cache: Cache | None,
        weights: bool,
        bias: Array | None,
        rotary: Rotary | None,
        key: Key,
    ) -> tuple[Array, Cache | None, Array | None]:
        keys_values = self.self_attn.project(states, rotary, key)
        if cache is not None:
            cache = cache.write(index, *keys_values)
            keys_values = cache.layer(index)
        if self.self_attn.bias_gate is not None and bias is not None:
            mask = self.self_attn.bias_gate(states, bias, mask)
        mixed, probs = self.self_attn(states, keys_values, mask, causal=causal, weights=weights, rotary=rotary, key=key)
        return mixed, cache, probs

    def _cross_attention(
        self, index: int, states: Array, memory: Memory | None, weights: bool, key: Key
    ) -> tuple[Array, Array | None]:
        assert memory is not None
        keys_values = memory.layer(index, self.cross_attn)
        return self.cross_attn(states, keys_values, memory.attention_mask, weights=weights, key=key)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StackOutput:
    """States after the last layer and, where asked for, before each layer and after all, and the attention weights."""

    states: Float[Array, "rows tokens width"]
    cache: Cache | None
    all_states: tuple[Array, ...] | None
    self_weights: tuple[Array | None, ...] | None
    cross_weights: tuple[Array | None, ...] | None

    def last(self, tokens: int) -> "StackOutput":
        """Return what there is of the last `tokens` tokens."""
        first = self.states.shape[1] - tokens
        looks = self.self_weights
        return replace(
            self,
            states=self.states[:, first:],
            all_states=None if self.all_states is None else tuple(x[:, first:] for x in self.all_states),
            self_weights=None if looks is None else tuple(x if x is None else x[:, :, first:] for x in looks),
        )


class Stack(nnx.Module):
    """Blocks one after the other.

    Args:
        spec: What to build.
        layer: Of what; anything that is built from a `BlockSpec` and called as a `Block` is.
    """

    def __init__(self, spec: StackSpec, layer: Callable[[BlockSpec], Any] | None = None) -> None:
        self.spec = spec
        self.layers = nnx.List((layer or Block)(spec.block) for _ in range(spec.num_layers))
        block = spec.block
        self.final_norm = norm_of(block.norm, block.width) if spec.final_norm else None
        self.gradient_checkpointing = False

    def __call__(
        self,
        states: Float[Array, "rows tokens width"],
        mask: Bool[Array, "..."] | None = None,
        *,
        causal: bool = False,
        memory: Memory | None = None,
        cache: Cache | None = None,
        bias: Any = None,
        positions: Int[Array, "rows tokens"] | None = None,
        near: Bool[Array, "..."] | None = None,
        all_states: bool = False,
        weights: bool = False,
        key: Key = None,
    ) -> StackOutput:
        """Run the layers.

        Args:
            states: What enters the first layer.
            mask: True where self-attention may look, broadcastable to `[rows, heads, tokens, tokens so far]`.
            causal: No token looks ahead (without `mask`).
            memory: What cross-attention looks at; layers skip it if there is none.
            cache: Where the tokens' keys and values go, after those of earlier calls.
            bias: What the layers share: numbers that blocks with a gated bias weigh and add to their self-attention
                scores, `Surroundings` for Conformers.
            positions: Of the tokens, `[rows or 1, tokens]`, for rotary positions; one after the other without.
            near: The mask of the layers that look back only so far, where the text is longer than that.
            all_states: Keep the states before each layer and after the last.
            weights: Keep the attention weights.
            key: For dropout and LayerDrop.
        """
        seen: list[Array] = []
        self_weights: list[Array | None] = []
        cross_weights: list[Array | None] = []
        local = self.spec.local
        far, nearby = self._rotaries(positions, states)
        for index, (layer, layer_key) in enumerate(zip(self.layers, split(key, self.spec.num_layers), strict=True)):
            if all_states:
                seen.append(states)
            windowed = local is not None and index in local.layers
            look = (near, False) if near is not None and windowed else (mask, causal)
            rotary = None if index in self.spec.nope_layers else nearby if windowed else far
            arguments = (*look, memory, cache, weights, bias, rotary, layer_key)
            states, cache, own, across = self._run(layer, index, states, *arguments)
            self_weights.append(own)
            cross_weights.append(across)
        if self.final_norm is not None:
            states = self.final_norm(states)
        crosses = weights and memory is not None
        return StackOutput(
            states=states,
            cache=cache,
            all_states=(*seen, states) if all_states else None,
            self_weights=tuple(self_weights) if weights else None,
            cross_weights=tuple(cross_weights) if crosses else None,
        )

    def _run(
        self,
        layer: Block,
        index: int,
        states: Array,
        mask: Array | None,
        causal: bool,
        memory: Memory | None,
        cache: Cache | None,
        weights: bool,
        bias: Array | None,
        rotary: Rotary | None,
        key: Key,
    ) -> tuple[Array, Cache | None, Array | None, Array | None]:
        """Run one layer; in training it may be left out (LayerDrop), and computed anew for the gradient."""

        def run(states: Array) -> tuple[Array, Cache | None, Array | None, Array | None]:
            return layer(index, states, mask, causal, memory, cache, weights, bias, rotary, key)

        if key is None:
            return run(states)
        new, cache, own, across = (jax.checkpoint(run) if self.gradient_checkpointing else run)(states)
        if self.spec.layerdrop > 0:
            # The layer is computed and not taken: what XLA compiles has no branches that a batch could choose.
            left_out = jax.random.uniform(jax.random.fold_in(key, 1)) < self.spec.layerdrop
            new = jnp.where(left_out, states, new)
        return new, cache, own, across

    def _rotaries(self, positions: Array | None, states: Array) -> tuple[Rotary | None, Rotary | None]:
        """Return the turns of the layers that see the whole text, and of those that look back only so far."""
        spec, local = self.spec.block.self_attn.rotary, self.spec.local
        if spec is None:
            return None, None
        if positions is None:
            positions = jnp.arange(states.shape[1])[None]
        rotary = rotary_for(spec, positions, states)
        own = None if local is None else local.rotary
        return rotary, rotary if own is None else rotary_for(own, positions, states)
