"""The Transformer block that every family shares, and the stack of them.

Axes: rows, tokens (or frames), width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from dragoman.spec import BlockSpec, FeedForwardSpec, NormOrder, StackSpec
from dragoman.torch.net.attention import Attention
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.layers import ACTIVATIONS, Linear, norm_of
from dragoman.torch.net.rotary import Rotary, rotary_for

__all__ = ["Block", "FeedForward", "Stack", "StackOutput"]


class FeedForward(nn.Module):
    """Two linear layers around a non-linearity, perhaps with a gate: another layer gives what the inner one is
    multiplied by (https://arxiv.org/abs/2002.05202).
    """

    def __init__(self, spec: FeedForwardSpec, width: int) -> None:
        super().__init__()
        self.activation, self.dropout = ACTIVATIONS[spec.activation], spec.dropout
        self.in_proj = Linear(width, spec.width, bias=spec.bias)
        self.gate_proj = Linear(width, spec.width, bias=spec.bias) if spec.gated else None
        self.out_proj = Linear(spec.width, width, bias=spec.bias)

    def forward(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Transform each position on its own."""
        inner = self.in_proj(states)
        gate = self.gate_proj
        inner = self.activation(inner) if gate is None else self.activation(gate(states)) * inner
        return self.out_proj(F.dropout(inner, self.dropout, self.training))


class Bottleneck(nn.Module):
    """A narrow residual network behind a block, one per language (MMS, https://arxiv.org/abs/2305.13516)."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.in_proj = Linear(width, narrow)
        self.out_proj = Linear(narrow, width)

    def forward(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Transform each position on its own."""
        return self.out_proj(F.relu(self.in_proj(self.norm(states))))


class Block(nn.Module):
    """Self-attention, cross-attention if asked for, feed-forward; each residual, normalised before or after."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.self_attn = Attention(spec.self_attn)
        self.self_attn_norm = norm_of(spec.norm, spec.width)
        if spec.cross_attn is not None:
            self.cross_attn = Attention(spec.self_attn, spec.cross_attn)
            self.cross_attn_norm = norm_of(spec.norm, spec.width)
            self.cross_attn_gate = nn.Parameter(torch.empty(1)) if spec.cross_attn.gated else None
        self.ffn = FeedForward(spec.ffn, spec.width)
        slots = spec.norm_order.slots
        self.ffn_norm = None if slots.shared else norm_of(spec.norm, spec.width)
        self.self_attn_post_norm = norm_of(spec.norm, spec.width) if slots.branch else None
        self.ffn_post_norm = norm_of(spec.norm, spec.width) if slots.branch else None
        self.bottleneck = Bottleneck(spec.width, spec.bottleneck) if spec.bottleneck else None

    def forward(
        self,
        index: int,
        states: Float[Tensor, "rows tokens width"],
        mask: Bool[Tensor, "..."] | None,
        causal: bool,
        memory: Memory | None,
        cache: Cache | None,
        weights: bool,
        bias: Float[Tensor, "heads tokens tokens"] | None,
        rotary: Rotary | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the new states and, if `weights`, the self- and cross-attention weights."""
        crosses = self.spec.cross_attn is not None and memory is not None
        cross_weights = None
        if crosses and self.cross_attn_gate is not None:
            mixed, cross_weights = self._cross_attention(index, self.cross_attn_norm(states), memory, weights)
            states = states + torch.tanh(self.cross_attn_gate) * self._drop(mixed)
            crosses = False
        if self.spec.norm_order is NormOrder.POST:
            mixed, self_weights = self._self_attention(index, states, mask, causal, cache, weights, bias, rotary)
            states = self.self_attn_norm(states + self._drop(mixed))
            if crosses:
                mixed, cross_weights = self._cross_attention(index, states, memory, weights)
                states = self.cross_attn_norm(states + self._drop(mixed))
            assert self.ffn_norm is not None
            states = self.ffn_norm(states + self._drop(self.ffn(states)))
        else:
            own = self.self_attn_norm(states)
            mixed, self_weights = self._self_attention(index, own, mask, causal, cache, weights, bias, rotary)
            before, states = states, states + self._drop(mixed, self.self_attn_post_norm)
            if crosses:
                mixed, cross_weights = self._cross_attention(index, self.cross_attn_norm(states), memory, weights)
                states = states + self._drop(mixed)
            if self.ffn_norm is not None:
                own = self.ffn_norm(before if self.spec.norm_order is NormOrder.PARALLEL else states)
            states = states + self._drop(self.ffn(own), self.ffn_post_norm)
        if self.bottleneck is not None:
            states = states + self.bottleneck(states)
        return states, self_weights, cross_weights

    def _drop(self, states: Tensor, norm: nn.Module | None = None) -> Tensor:
        """Return what a residual connection adds: normalised if there is a `norm`, in training not all of it."""
        return F.dropout(states if norm is None else norm(states), self.spec.dropout, self.training)

    def _self_attention(
        self,
        index: int,
        states: Tensor,
        mask: Tensor | None,
        causal: bool,
        cache: Cache | None,
        weights: bool,
        bias: Tensor | None,
        rotary: Rotary | None,
    ) -> tuple[Tensor, Tensor | None]:
        keys, values = self.self_attn.project(states, rotary)
        if cache is not None:
            keys, values = cache.write(index, keys, values)
        if self.self_attn.bias_gate is not None and bias is not None:
            mask = self.self_attn.bias_gate(states, bias, mask)
        return self.self_attn(states, (keys, values), mask, causal=causal, weights=weights, rotary=rotary)

    def _cross_attention(
        self, index: int, states: Tensor, memory: Memory | None, weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        assert memory is not None
        keys_values = memory.layer(index, self.cross_attn)
        return self.cross_attn(states, keys_values, memory.attention_mask, weights=weights)


@dataclass(frozen=True, kw_only=True)
class StackOutput:
    """States after the last layer and, where asked for, before each layer and after all, and the attention weights."""

    states: Float[Tensor, "rows tokens width"]
    all_states: tuple[Tensor, ...] | None
    self_weights: tuple[Tensor | None, ...] | None
    cross_weights: tuple[Tensor | None, ...] | None

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


class Stack(nn.Module):
    """Blocks one after the other.

    Args:
        spec: What to build.
        layer: Of what; anything that is built from a `BlockSpec` and called as a `Block` is.
    """

    def __init__(self, spec: StackSpec, layer: Callable[[BlockSpec], Any] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleList((layer or Block)(spec.block) for _ in range(spec.num_layers))
        block = spec.block
        self.final_norm = norm_of(block.norm, block.width) if spec.final_norm else None
        self.gradient_checkpointing = 0  # of one in so many layers; 0: of none

    def blocks(self) -> Iterator[Block]:
        """Return the layers, one after the other."""
        for layer in self.layers:
            assert isinstance(layer, Block)
            yield layer

    def forward(
        self,
        states: Float[Tensor, "rows tokens width"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        memory: Memory | None = None,
        cache: Cache | None = None,
        bias: Any = None,
        positions: Int[Tensor, "rows tokens"] | None = None,
        near: Bool[Tensor, "..."] | None = None,
        all_states: bool = False,
        weights: bool = False,
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
        """
        seen: list[Tensor] = []
        self_weights: list[Tensor | None] = []
        cross_weights: list[Tensor | None] = []
        local = self.spec.local
        far, nearby = self._rotaries(positions, states)
        for index, layer in enumerate(self.layers):
            if all_states:
                seen.append(states)
            if self.training and self.spec.layerdrop > 0 and torch.rand(()) < self.spec.layerdrop:
                self_weights.append(None)
                cross_weights.append(None)
                continue
            windowed = local is not None and index in local.layers
            look = (near, False) if near is not None and windowed else (mask, causal)
            rotary = None if index in self.spec.nope_layers else nearby if windowed else far
            arguments = (index, states, *look, memory, cache, weights, bias, rotary)
            if self.training and self.gradient_checkpointing and index % self.gradient_checkpointing == 0:
                states, own, across = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                states, own, across = layer(*arguments)
            self_weights.append(own)
            cross_weights.append(across)
        if self.final_norm is not None:
            states = self.final_norm(states)
        crosses = weights and memory is not None
        return StackOutput(
            states=states,
            all_states=(*seen, states) if all_states else None,
            self_weights=tuple(self_weights) if weights else None,
            cross_weights=tuple(cross_weights) if crosses else None,
        )

    def _rotaries(self, positions: Tensor | None, states: Tensor) -> tuple[Rotary | None, Rotary | None]:
        """Return the turns of the layers that see the whole text, and of those that look back only so far."""
        spec, local = self.spec.block.self_attn.rotary, self.spec.local
        if spec is None:
            return None, None
        if positions is None:
            positions = torch.arange(states.shape[1], device=states.device)[None]
        rotary = rotary_for(spec, positions, states)
        own = None if local is None else local.rotary
        return rotary, rotary if own is None else rotary_for(own, positions, states)
