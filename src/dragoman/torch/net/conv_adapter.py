"""Adapters, which shorten the memory of a speech encoder: convolutions, or averages.

Axes: batch, frames, width.
"""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import BlockSpec, ConvAdapterSpec, PoolSpec
from dragoman.torch.net.attention import Attention
from dragoman.torch.net.block import FeedForward
from dragoman.torch.net.layers import frame_mask, zero_padding
from dragoman.torch.net.squeeze import average

States: TypeAlias = Float[Tensor, "batch frames width"]
Fewer: TypeAlias = Float[Tensor, "batch frames_out width_out"]
Lengths: TypeAlias = Int[Tensor, " batch"] | None


class AttentiveLayer(nn.Module):
    """Gated convolutions that shorten the residual and the input of attention, then a feed-forward network."""

    def __init__(self, spec: ConvAdapterSpec, block: BlockSpec) -> None:
        super().__init__()
        self.spec, self.block = spec, block
        self.residual_norm, self.residual_conv = nn.LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn_norm, self.self_attn_conv = nn.LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn = Attention(block.self_attn)
        self.ffn_norm, self.ffn = nn.LayerNorm(spec.width, block.norm.eps), FeedForward(block.ffn, block.width)

    def forward(self, states: States, lengths: Lengths, *, mask_padding: bool = True) -> tuple[Fewer, Lengths]:
        """Return the new states and their lengths; see `ConvAdapter`."""
        keep = None if lengths is None or not mask_padding else frame_mask(lengths, states.shape[1])
        residual = _shortened(self.residual_conv, zero_padding(self.residual_norm(states), keep))
        own = _shortened(self.self_attn_conv, zero_padding(self.self_attn_norm(states), keep))
        mask = None
        if lengths is not None:
            lengths = self.spec.shortened(lengths)
            mask = frame_mask(lengths, own.shape[1])[:, None, None]
        out, _ = self.self_attn(own, self.self_attn.project(own), mask)
        states = residual + F.dropout(out, self.spec.dropout, self.training)
        return states + F.dropout(self.ffn(self.ffn_norm(states)), self.block.dropout, self.training), lengths


class ConvAdapter(nn.Module):
    """Gated strided convolutions, or attentive layers, after a projection where the widths differ.

    References: XLS-R, section 4.2; https://arxiv.org/abs/2312.05187, section 3.2.1, for attentive layers, which follow
    half a feed-forward network.
    """

    def __init__(self, spec: ConvAdapterSpec, width: int) -> None:
        super().__init__()
        self.spec, block, projects = spec, spec.block, spec.width != width
        self.first_ffn = FeedForward(spec.first_ffn, width) if spec.first_ffn else None
        self.proj = nn.Linear(width, spec.width) if projects else None
        self.norm = nn.LayerNorm(spec.width, block.norm.eps if block else 1e-5) if projects else None
        self.layers = nn.ModuleList(
            AttentiveLayer(spec, block) if block else _conv(spec) for _ in range(spec.num_layers)
        )

    @property
    def proj_layer_norm(self) -> nn.LayerNorm | None:
        """The norm after the projection, under its name in `transformers`."""
        return self.norm

    def forward(self, states: States, lengths: Lengths, *, mask_padding: bool = True) -> Fewer:
        """Shorten; frames beyond `lengths` are zero at each convolution, as they are at the edge of a single clip.

        With `mask_padding=False` they are not masked, which is what `transformers` does.
        """
        if self.first_ffn is not None:
            states = states + 0.5 * self.first_ffn(states)
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for layer in self.layers:
            if isinstance(layer, AttentiveLayer):
                states, lengths = layer(states, lengths, mask_padding=mask_padding)
                continue
            if lengths is not None and mask_padding:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = self.spec.shortened(lengths)
            states = _shortened(layer, states)
        return states


class Pool(nn.Module):
    """Averages of neighbouring states, then a norm."""

    def __init__(self, spec: PoolSpec) -> None:
        super().__init__()
        self.stride, self.norm = spec.stride, nn.LayerNorm(spec.width)

    def forward(self, states: States, lengths: Lengths, *, mask_padding: bool = True) -> Fewer:
        """Shorten; no average that counts has padding in it."""
        return self.norm(average(states, self.stride))


class _Conv(nn.Conv1d):
    @property
    def conv(self) -> nn.Conv1d:
        """The layer itself, which `transformers` has inside another module."""
        return self


def _conv(spec: ConvAdapterSpec) -> nn.Conv1d:
    return _Conv(spec.width, 2 * spec.width, spec.kernel, spec.stride, padding=spec.padding)


def _shortened(conv: nn.Module, states: Tensor) -> Tensor:
    return F.glu(conv(states.transpose(1, 2)), dim=1).transpose(1, 2)  # [b, t, w] -> [b, 2w, t'] -> [b, t', w]


def adapter_of(spec: ConvAdapterSpec | PoolSpec, width: int) -> ConvAdapter | Pool:
    """Build the adapter that a spec describes, after a stack of width `width`."""
    return Pool(spec) if isinstance(spec, PoolSpec) else ConvAdapter(spec, width)
