"""The Transformer block that all families share, and a stack of blocks.

Axes: rows, tokens (or frames), width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from dragoman.spec import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.torch.net.attention import Attention
from dragoman.torch.net.layers import ACTIVATIONS, Linear
from dragoman.torch.net.norms import norm_of
from dragoman.torch.net.rotary import rotary_for
from dragoman.torch.net.step import LayerInputs, Step


class FeedForward(nn.Module):
    """Two linear layers around a non-linearity, which may multiply a third (https://arxiv.org/abs/2002.05202)."""

    def __init__(self, spec: FeedForwardSpec, width: int) -> None:
        super().__init__()
        self.activation, self.dropout = ACTIVATIONS[spec.activation], spec.dropout
        self.in_proj = Linear(width, spec.width, bias=spec.bias)
        self.gate_proj = Linear(width, spec.width, bias=spec.bias) if spec.gated else None
        self.out_proj = Linear(spec.width, width, bias=spec.bias)

    def forward(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        inner = self.in_proj(states)
        gate = self.gate_proj
        inner = self.activation(inner) if gate is None else self.activation(gate(states)) * inner
        out: Tensor = self.out_proj(F.dropout(inner, self.dropout, self.training))
        return out


class Bottleneck(nn.Module):
    """A narrow residual network after a block, one per language (MMS, https://arxiv.org/abs/2305.13516)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.in_proj = Linear(width, inner)
        self.out_proj = Linear(inner, width)

    def forward(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        out: Tensor = self.out_proj(F.relu(self.in_proj(self.norm(states))))
        return out


class Block(nn.Module):
    """Self-attention, optional cross-attention and a feed-forward network, each added to the states.

    Where they are normalised is in `NormSlots`. `self_attn_norm`, `cross_attn_norm` and `ffn_norm` are applied before
    the sublayer or after the sum, the post norms to the sublayer's output.
    """

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec, self.slots = spec, spec.norm_order.slots
        self.self_attn = Attention(spec.self_attn)
        self.self_attn_norm = norm_of(spec.norm, spec.width)
        if spec.cross_attn is not None:
            self.cross_attn = Attention(spec.self_attn, spec.cross_attn)
            self.cross_attn_norm = norm_of(spec.norm, spec.width)
            self.cross_attn_gate = nn.Parameter(torch.empty(1)) if spec.cross_attn.gated else None
        self.ffn = FeedForward(spec.ffn, spec.width)
        self.ffn_norm = None if self.slots.shared else norm_of(spec.norm, spec.width)
        self.self_attn_post_norm = norm_of(spec.norm, spec.width) if self.slots.branch else None
        self.ffn_post_norm = norm_of(spec.norm, spec.width) if self.slots.branch else None
        self.bottleneck = Bottleneck(spec.width, spec.bottleneck) if spec.bottleneck else None

    def forward(
        self, index: int, states: Float[Tensor, "rows tokens width"], inputs: LayerInputs
    ) -> tuple[Float[Tensor, "rows tokens width"], Tensor | None, Tensor | None]:
        """Return the new states and, if asked for, the self- and cross-attention weights."""
        has_memory = inputs.memory is not None and self.spec.cross_attn is not None
        gate = self.cross_attn_gate if has_memory else None
        cross_weights = None
        if gate is not None:  # inserted before the block that the family has
            out, cross_weights = self._cross_attention(index, self.cross_attn_norm(states), inputs)
            states = states + torch.tanh(gate) * self._dropout(out)
        block_states, own = states, self._before(states, self.self_attn_norm)
        out, self_weights = self._self_attention(index, own, inputs)
        states = self._add(states, out, self.self_attn_norm, self.self_attn_post_norm)
        if has_memory and gate is None:
            out, cross_weights = self._cross_attention(index, self._before(states, self.cross_attn_norm), inputs)
            states = self._add(states, out, self.cross_attn_norm)
        if self.ffn_norm is not None:
            own = self._before(block_states if self.slots.parallel else states, self.ffn_norm)
        states = self._add(states, self.ffn(own), self.ffn_norm, self.ffn_post_norm)
        if self.bottleneck is not None:
            states = states + self.bottleneck(states)
        return states, self_weights, cross_weights

    def _before(self, states: Tensor, norm: nn.Module) -> Tensor:
        """Return what a sublayer reads."""
        return norm(states) if self.slots.before else states

    def _add(self, states: Tensor, out: Tensor, norm: nn.Module | None, post_norm: nn.Module | None = None) -> Tensor:
        """Add the output of a sublayer to the states."""
        post_norm = norm if self.slots.inside else post_norm
        out = self._dropout(out if post_norm is None else post_norm(out))
        total = states + (out if self.spec.residual_scale == 1.0 else out * self.spec.residual_scale)
        return norm(total) if norm is not None and self.slots.after else total

    def _dropout(self, out: Tensor) -> Tensor:
        return F.dropout(out, self.spec.dropout, self.training)

    def _self_attention(self, index: int, states: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor | None]:
        keys, values = self.self_attn.project(states, inputs.rotary)
        if inputs.cache is not None:
            keys, values = inputs.cache.write(index, keys, values)
        mask = inputs.mask
        if self.self_attn.bias_gate is not None and isinstance(inputs.bias, Tensor):
            mask = self.self_attn.bias_gate(states, inputs.bias, mask)
        return self.self_attn(
            states, (keys, values), mask, causal=inputs.causal, weights=inputs.weights, rotary=inputs.rotary
        )

    def _cross_attention(self, index: int, states: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor | None]:
        assert inputs.memory is not None
        keys_values = inputs.memory.layer(index, self.cross_attn)
        return self.cross_attn(states, keys_values, inputs.memory.attention_mask, weights=inputs.weights)


@dataclass(frozen=True, kw_only=True)
class StackOutput:
    """The result of a stack."""

    states: Float[Tensor, "rows tokens width"]
    """States after the last layer."""
    all_states: tuple[Tensor, ...] | None
    """States before each layer and after the last, if asked for."""
    self_weights: tuple[Tensor | None, ...] | None
    """Self-attention weights of each layer, if asked for."""
    cross_weights: tuple[Tensor | None, ...] | None
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


class Stack(nn.Module):
    """Blocks, one after another.

    Args:
        spec: Their number and kind.
        layer: The class of the blocks, which is built from a `BlockSpec` and called as `Block` is.
    """

    def __init__(self, spec: StackSpec, layer: Callable[[BlockSpec], Any] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleList((layer or Block)(spec.block) for _ in range(spec.num_layers))
        self.final_norm = norm_of(spec.block.norm, spec.block.width) if spec.final_norm else None
        self.gradient_checkpointing = 0  # every how many layers one is computed anew for its gradient; 0 for none

    def blocks(self) -> Iterator[Block]:
        """Return the layers in order."""
        for layer in self.layers:
            assert isinstance(layer, Block)
            yield layer

    def forward(
        self, states: Float[Tensor, "rows tokens width"], step: Step, inputs: LayerInputs, *, all_states: bool = False
    ) -> StackOutput:
        """Run the layers.

        Args:
            states: Input of the first layer.
            step: Positions and masks.
            inputs: What all layers read, without what `step` gives them.
            all_states: Keep the states before each layer and after the last.
        """
        kept: list[Tensor] = []
        self_weights: list[Tensor | None] = []
        cross_weights: list[Tensor | None] = []
        for index, (layer, own) in enumerate(zip(self.layers, self._per_layer(step, inputs, states), strict=True)):
            if all_states:
                kept.append(states)
            if self.training and self.spec.layerdrop > 0 and torch.rand(()) < self.spec.layerdrop:
                self_weights.append(None)
                cross_weights.append(None)
                continue
            if self.training and self.gradient_checkpointing and index % self.gradient_checkpointing == 0:
                states, self_probs, cross_probs = checkpoint(layer, index, states, own, use_reentrant=False)
            else:
                states, self_probs, cross_probs = layer(index, states, own)
            self_weights.append(self_probs)
            cross_weights.append(cross_probs)
        if self.final_norm is not None:
            states = self.final_norm(states)
        return StackOutput(
            states=states,
            all_states=(*kept, states) if all_states else None,
            self_weights=tuple(self_weights) if inputs.weights else None,
            cross_weights=tuple(cross_weights) if inputs.weights and inputs.memory is not None else None,
        )

    def _per_layer(self, step: Step, inputs: LayerInputs, states: Tensor) -> list[LayerInputs]:
        """Return what each layer reads: some may have a window, some no rotary positions."""
        spec, rotary = self.spec, self.spec.block.self_attn.rotary
        inputs = replace(inputs, mask=step.mask, causal=step.causal)
        positions = step.positions
        if rotary is not None:
            if positions is None:
                positions = torch.arange(step.start, step.start + states.shape[1], device=states.device)[None]
            inputs = replace(inputs, rotary=rotary_for(rotary, positions, states))
        local_inputs, local = inputs, spec.local
        if local is not None and local.rotary is not None and positions is not None:
            local_inputs = replace(inputs, rotary=rotary_for(local.rotary, positions, states))
        if step.local_mask is not None:
            local_inputs = replace(local_inputs, mask=step.local_mask, causal=False)
        chosen = [local_inputs if local and index in local.layers else inputs for index in range(spec.num_layers)]
        return [replace(own, rotary=None) if index in spec.nope_layers else own for index, own in enumerate(chosen)]
