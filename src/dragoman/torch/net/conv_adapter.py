"""Convolutional adapters, which shorten the memory of a speech encoder.

Axes: batch, frames, width.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import BlockSpec, ConvAdapterSpec
from dragoman.torch.net.attention import Attention
from dragoman.torch.net.block import FeedForward
from dragoman.torch.net.layers import frame_mask, zero_padding


class ConvAdapter(nn.Module):
    """Gated strided convolutions, after a projection where the widths differ (XLS-R, section 4.2)."""

    def __init__(self, spec: ConvAdapterSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        projects = spec.width != width
        self.proj = nn.Linear(width, spec.width) if projects else None
        self.norm = nn.LayerNorm(spec.width) if projects else None
        self.layers = nn.ModuleList(_conv(spec) for _ in range(spec.num_layers))

    @property
    def proj_layer_norm(self) -> nn.LayerNorm | None:
        """The norm after the projection, under its name in `transformers`."""
        return self.norm

    def forward(
        self,
        states: Float[Tensor, "batch frames width"],
        lengths: Int[Tensor, " batch"] | None,
        *,
        mask_padding: bool = True,
    ) -> Float[Tensor, "batch frames_out width_out"]:
        """Shorten; frames beyond `lengths` are zero at each convolution, as they are at the edge of a single clip.

        With `mask_padding=False` they are not masked, which is what `transformers` does.
        """
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for conv in self.layers:
            if lengths is not None and mask_padding:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = self.spec.shortened(lengths)
            states = _shortened(conv, states)
        return states


class AttentiveLayer(nn.Module):
    """Gated convolutions that shorten the residual and the input of attention, then a feed-forward network."""

    def __init__(self, spec: ConvAdapterSpec, block: BlockSpec) -> None:
        super().__init__()
        self.spec, self.block = spec, block
        self.residual_norm, self.residual_conv = nn.LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn_norm, self.self_attn_conv = nn.LayerNorm(spec.width, block.norm.eps), _conv(spec)
        self.self_attn = Attention(block.self_attn)
        self.ffn_norm, self.ffn = nn.LayerNorm(spec.width, block.norm.eps), FeedForward(block.ffn, block.width)

    def forward(
        self,
        states: Float[Tensor, "batch frames width"],
        lengths: Int[Tensor, " batch"] | None,
        *,
        mask_padding: bool = True,
    ) -> tuple[Float[Tensor, "batch fewer width"], Int[Tensor, " batch"] | None]:
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


class AttentiveAdapter(nn.Module):
    """Attentive layers after half a feed-forward network and a projection, where there are such.

    Reference: the length adapter of https://arxiv.org/abs/2312.05187, section 3.2.1.
    """

    def __init__(self, spec: ConvAdapterSpec, block: BlockSpec, width: int) -> None:
        super().__init__()
        projects = spec.width != width
        self.first_ffn = FeedForward(spec.first_ffn, width) if spec.first_ffn else None
        self.proj = nn.Linear(width, spec.width) if projects else None
        self.norm = nn.LayerNorm(spec.width, block.norm.eps) if projects else None
        self.layers = nn.ModuleList(AttentiveLayer(spec, block) for _ in range(spec.num_layers))

    def forward(
        self,
        states: Float[Tensor, "batch frames width"],
        lengths: Int[Tensor, " batch"] | None,
        *,
        mask_padding: bool = True,
    ) -> Float[Tensor, "batch frames_out width_out"]:
        """Shorten; see `ConvAdapter`."""
        if self.first_ffn is not None:
            states = states + 0.5 * self.first_ffn(states)
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for layer in self.layers:
            states, lengths = layer(states, lengths, mask_padding=mask_padding)
        return states


class _Conv(nn.Conv1d):
    @property
    def conv(self) -> nn.Conv1d:
        """The layer itself, which `transformers` has inside another module."""
        return self


def _conv(spec: ConvAdapterSpec) -> nn.Conv1d:
    return _Conv(spec.width, 2 * spec.width, spec.kernel, spec.stride, padding=spec.padding)


def _shortened(conv: nn.Module, states: Tensor) -> Tensor:
    return F.glu(conv(states.transpose(1, 2)), dim=1).transpose(1, 2)  # [b, t, w] -> [b, 2w, t'] -> [b, t', w]


def adapter_of(spec: ConvAdapterSpec, width: int) -> ConvAdapter | AttentiveAdapter:
    """Build the adapter that a spec describes, after a stack of width `width`."""
    return ConvAdapter(spec, width) if spec.block is None else AttentiveAdapter(spec, spec.block, width)
