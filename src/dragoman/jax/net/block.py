"""The Transformer block that all families share, and a stack of blocks.

Axes: rows, tokens (or frames), width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dragoman.jax.net.attention import Attention
from dragoman.jax.net.cache import Cache
from dragoman.jax.net.layers import ACTIVATIONS, Key, Linear, dropout, param, split
from dragoman.jax.net.norms import LayerNorm, RMSNorm, norm_of
from dragoman.jax.net.rotary import rotary_for
from dragoman.jax.net.step import LayerInputs, Step
from dragoman.spec import BlockSpec, FeedForwardSpec, StackSpec


class FeedForward(nnx.Module):
    """Two linear layers around a non-linearity, which may multiply a third (https://arxiv.org/abs/2002.05202)."""

    def __init__(self, spec: FeedForwardSpec, width: int) -> None:
        self.activation, self.dropout = ACTIVATIONS[spec.activation], spec.dropout
        self.in_proj = Linear(width, spec.width, bias=spec.bias)
        self.gate_proj = Linear(width, spec.width, bias=spec.bias) if spec.gated else None
        self.out_proj = Linear(spec.width, width, bias=spec.bias)

    def __call__(self, states: Float[Array, "*rows width"], key: Key = None) -> Float[Array, "*rows width"]:
        inner = self.in_proj(states, key)
        gate = self.gate_proj
        inner = self.activation(inner) if gate is None else self.activation(gate(states, key)) * inner
        return self.out_proj(dropout(inner, self.dropout, key), key)


class Bottleneck(nnx.Module):
    """A narrow residual network after a block, one per language (MMS, https://arxiv.org/abs/2305.13516)."""

    def __init__(self, width: int, inner: int) -> None:
        self.norm = LayerNorm(width)
        self.in_proj = Linear(width, inner)
        self.out_proj = Linear(inner, width)

    def __call__(self, states: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        return self.out_proj(jax.nn.relu(self.in_proj(self.norm(states))))


class Block(nnx.Module):
    """Self-attention, optional cross-attention and a feed-forward network, each added to the states.

    Where they are normalised is in `NormSlots`. `self_attn_norm`, `cross_attn_norm` and `ffn_norm` are applied before
    the sublayer or after the sum, the post norms to the sublayer's output.
    """

    def __init__(self, spec: BlockSpec) -> None:
        self.spec, self.slots = spec, spec.norm_order.slots
        self.self_attn = Attention(spec.self_attn)
        self.self_attn_norm = norm_of(spec.norm, spec.width)
        if spec.cross_attn is not None:
            self.cross_attn = Attention(spec.self_attn, spec.cross_attn)
            self.cross_attn_norm = norm_of(spec.norm, spec.width)
            self.cross_attn_gate = param(1) if spec.cross_attn.gated else None
        self.ffn = FeedForward(spec.ffn, spec.width)
        self.ffn_norm = None if self.slots.shared else norm_of(spec.norm, spec.width)
        self.self_attn_post_norm = norm_of(spec.norm, spec.width) if self.slots.branch else None
        self.ffn_post_norm = norm_of(spec.norm, spec.width) if self.slots.branch else None
        self.bottleneck = Bottleneck(spec.width, spec.bottleneck) if spec.bottleneck else None

    def __call__(
        self, index: int, states: Float[Array, "rows tokens width"], inputs: LayerInputs
    ) -> tuple[Float[Array, "rows tokens width"], Cache | None, Array | None, Array | None]:
        """Return the new states, the new cache and, if asked for, the self- and cross-attention weights."""
        has_memory = inputs.memory is not None and self.spec.cross_attn is not None
        gate = self.cross_attn_gate if has_memory else None
        cross_weights = None
        self_key, cross_key, ffn_key, *keys = split(inputs.key, 6)
        if gate is not None:  # inserted before the block that the family has
            out, cross_weights = self._cross_attention(index, self.cross_attn_norm(states), inputs, cross_key)
            states = states + jnp.tanh(gate[...]) * self._dropout(out, keys[1])
        block_states, own = states, self._before(states, self.self_attn_norm)
        out, cache, self_weights = self._self_attention(index, own, inputs, self_key)
        states = self._add(states, out, keys[0], self.self_attn_norm, self.self_attn_post_norm)
        if has_memory and gate is None:
            own_cross = self._before(states, self.cross_attn_norm)
            out, cross_weights = self._cross_attention(index, own_cross, inputs, cross_key)
            states = self._add(states, out, keys[1], self.cross_attn_norm)
        if self.ffn_norm is not None:
            own = self._before(block_states if self.slots.parallel else states, self.ffn_norm)
        states = self._add(states, self.ffn(own, ffn_key), keys[2], self.ffn_norm, self.ffn_post_norm)
        if self.bottleneck is not None:
            states = states + self.bottleneck(states)
        return states, cache, self_weights, cross_weights

    def _before(self, states: Array, norm: LayerNorm | RMSNorm) -> Array:
        """Return what a sublayer reads."""
        return norm(states) if self.slots.before else states

    def _add(
        self,
        states: Array,
        out: Array,
        key: Key,
        norm: LayerNorm | RMSNorm | None,
        post_norm: LayerNorm | RMSNorm | None = None,
    ) -> Array:
        """Add the output of a sublayer to the states."""
        post_norm = norm if self.slots.inside else post_norm
        out = self._dropout(out if post_norm is None else post_norm(out), key)
        total = states + (out if self.spec.residual_scale == 1.0 else out * self.spec.residual_scale)
        return norm(total) if norm is not None and self.slots.after else total

    def _dropout(self, out: Array, key: Key) -> Array:
        return dropout(out, self.spec.dropout, key)

    def _self_attention(
        self, index: int, states: Array, inputs: LayerInputs, key: Key
    ) -> tuple[Array, Cache | None, Array | None]:
        keys_values = self.self_attn.project(states, inputs.rotary, key)
        cache, mask = inputs.cache, inputs.mask
        if cache is not None:
            cache = cache.write(index, *keys_values)
            keys_values = cache.layer(index)
        if self.self_attn.bias_gate is not None and isinstance(inputs.bias, Array):
            mask = self.self_attn.bias_gate(states, inputs.bias, mask)
        out, probs = self.self_attn(
            states, keys_values, mask, causal=inputs.causal, weights=inputs.weights, rotary=inputs.rotary, key=key
        )
        return out, cache, probs

    def _cross_attention(self, index: int, states: Array, inputs: LayerInputs, key: Key) -> tuple[Array, Array | None]:
        assert inputs.memory is not None
        keys_values = inputs.memory.layer(index, self.cross_attn)
        return self.cross_attn(states, keys_values, inputs.memory.attention_mask, weights=inputs.weights, key=key)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StackOutput:
    """The result of a stack."""

    states: Float[Array, "rows tokens width"]
    """States after the last layer."""
    cache: Cache | None
    """The cache with the new keys and values."""
    all_states: tuple[Array, ...] | None
    """States before each layer and after the last, if asked for."""
    self_weights: tuple[Array | None, ...] | None
    """Self-attention weights of each layer, if asked for."""
    cross_weights: tuple[Array | None, ...] | None
    """Cross-attention weights of each layer, if asked for."""

    def last(self, tokens: int) -> "StackOutput":
        """Return the part of the last `tokens` tokens."""
        first, weights = self.states.shape[1] - tokens, self.self_weights
        return replace(
            self,
            states=self.states[:, first:],
            all_states=None if self.all_states is None else tuple(x[:, first:] for x in self.all_states),
            self_weights=None if weights is None else tuple(x if x is None else x[:, :, first:] for x in weights),
        )


class Stack(nnx.Module):
    """Blocks, one after another.

    Args:
        spec: Their number and kind.
        layer: The class of the blocks, which is built from a `BlockSpec` and called as `Block` is.
    """

    def __init__(self, spec: StackSpec, layer: Callable[[BlockSpec], Any] | None = None) -> None:
        self.spec = spec
        self.layers = nnx.List((layer or Block)(spec.block) for _ in range(spec.num_layers))
        self.final_norm = norm_of(spec.block.norm, spec.block.width) if spec.final_norm else None
        self.gradient_checkpointing = False

    def __call__(
        self, states: Float[Array, "rows tokens width"], step: Step, inputs: LayerInputs, *, all_states: bool = False
    ) -> StackOutput:
        """Run the layers.

        Args:
            states: Input of the first layer.
            step: Positions and masks.
            inputs: What all layers read, without what `step` gives them.
            all_states: Keep the states before each layer and after the last.
        """
        kept: list[Array] = []
        self_weights: list[Array | None] = []
        cross_weights: list[Array | None] = []
        cache, keys = inputs.cache, split(inputs.key, self.spec.num_layers)
        for index, own in enumerate(self._per_layer(step, inputs, states)):
            if all_states:
                kept.append(states)
            own = replace(own, cache=cache, key=keys[index])
            states, cache, self_probs, cross_probs = self._run(index, states, own)
            self_weights.append(self_probs)
            cross_weights.append(cross_probs)
        if self.final_norm is not None:
            states = self.final_norm(states)
        return StackOutput(
            states=states,
            cache=cache,
            all_states=(*kept, states) if all_states else None,
            self_weights=tuple(self_weights) if inputs.weights else None,
            cross_weights=tuple(cross_weights) if inputs.weights and inputs.memory is not None else None,
        )

    def _run(
        self, index: int, states: Array, inputs: LayerInputs
    ) -> tuple[Array, Cache | None, Array | None, Array | None]:
        """Run one layer; in training it may be left out (LayerDrop), and computed anew for the gradient."""
        layer, key = self.layers[index], inputs.key

        def run(states: Array) -> tuple[Array, Cache | None, Array | None, Array | None]:
            found: tuple[Array, Cache | None, Array | None, Array | None] = layer(index, states, inputs)
            return found

        if key is None:
            return run(states)
        new, cache, self_probs, cross_probs = (jax.checkpoint(run) if self.gradient_checkpointing else run)(states)
        if self.spec.layerdrop > 0:
            # The layer is computed and not taken: what XLA compiles has no branches that a batch could choose.
            left_out = jax.random.uniform(jax.random.fold_in(key, 1)) < self.spec.layerdrop
            new = jnp.where(left_out, states, new)
        return new, cache, self_probs, cross_probs

    def _per_layer(self, step: Step, inputs: LayerInputs, states: Array) -> list[LayerInputs]:
        """Return what each layer reads: some may have a window, some no rotary positions."""
        spec, rotary = self.spec, self.spec.block.self_attn.rotary
        inputs = replace(inputs, mask=step.mask, causal=step.causal)
        positions = step.positions
        if rotary is not None:
            if positions is None:
                positions = step.start + jnp.arange(states.shape[1])[None]
            inputs = replace(inputs, rotary=rotary_for(rotary, positions, states))
        local_inputs, local = inputs, spec.local
        if local is not None and local.rotary is not None and positions is not None:
            local_inputs = replace(inputs, rotary=rotary_for(local.rotary, positions, states))
        if step.local_mask is not None:
            local_inputs = replace(local_inputs, mask=step.local_mask, causal=False)
        chosen = [local_inputs if local and index in local.layers else inputs for index in range(spec.num_layers)]
        return [replace(own, rotary=None) if index in spec.nope_layers else own for index, own in enumerate(chosen)]
