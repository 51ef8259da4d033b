"""The Conformer block: half a feed-forward network, attention by distance, a convolution, the other half.

Axes: batch, frames, heads, head_dim, width. Reference: https://arxiv.org/abs/2005.08100, section 2.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import AttentionSpec, BlockSpec, ConformerSpec, Distance
from dragoman.torch.net.attention import plain_attention
from dragoman.torch.net.block import FeedForward
from dragoman.torch.net.layers import ACTIVATIONS, Embedding, Linear, forbid, split_heads
from dragoman.torch.net.step import LayerInputs


def relative_positions(spec: ConformerSpec, states: Float[Tensor, "batch frames width"]) -> Tensor | None:
    """Return what all layers read about the distances between frames.

    Returns:
        For `Distance.SINUSOID` sinusoids `[2 * frames - 1, width]` of the distances from `frames - 1` down; for
        `Distance.VECTOR` the index of the vector of each pair of frames, `[frames, frames]`.
    """
    frames, width = states.shape[1:]
    if spec.distance is Distance.SINUSOID:
        return sinusoids_of_distances(frames, width, states.device).to(states.dtype)
    return distances(frames, *spec.reach, states.device) if spec.distance is Distance.VECTOR else None


def sinusoids_of_distances(frames: int, width: int, device: torch.device) -> Float[Tensor, "distances width"]:
    """Return sines and cosines, interleaved, of each distance from `frames - 1` down to `1 - frames`.

    Reference: Transformer-XL, https://arxiv.org/abs/1901.02860, section 3.3.
    """
    distance = torch.arange(frames - 1, -frames, -1, device=device)
    frequencies = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000) / width))
    angles = distance[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def distances(frames: int, before: int, after: int, device: torch.device) -> Int[Tensor, "q k"]:
    """Return the distance from each query's frame to each key's, limited to `-before` to `after` and counted from
    `-before` on (https://arxiv.org/abs/1803.02155, section 3.2).
    """
    index = torch.arange(frames, device=device)
    return (index[None, :] - index[:, None]).clamp(-before, after) + before


class ConformerAttention(nn.Module):
    """Self-attention whose scores also depend on the distance between frames."""

    def __init__(self, spec: AttentionSpec, conformer: ConformerSpec) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.dropout = spec.num_heads, spec.head_dim, spec.dropout
        self.distance = conformer.distance
        width, bias = spec.width, spec.qkv_bias
        self.q_proj, self.k_proj = Linear(width, width, bias), Linear(width, width, bias)
        self.v_proj, self.out_proj = Linear(width, width, bias), Linear(width, width, bias)
        if self.distance is Distance.SINUSOID:
            self.place_proj = Linear(spec.width, spec.width, bias=False)
            self.content_bias = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim))
            self.place_bias = nn.Parameter(torch.empty(spec.num_heads, spec.head_dim))
        elif self.distance is Distance.VECTOR:
            self.vectors = Embedding(sum(conformer.reach) + 1, spec.head_dim)

    def forward(
        self, states: Float[Tensor, "batch frames width"], inputs: LayerInputs
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch heads frames frames"] | None]:
        """Attend to all frames; rotary positions rotate the input of the projections to queries and keys."""
        mask, rotary, positions = inputs.mask, inputs.rotary, inputs.bias
        rotated = states if rotary is None else rotary(split_heads(states, self.num_heads)).transpose(1, 2).flatten(2)
        queries, keys = (split_heads(proj(rotated), self.num_heads) for proj in (self.q_proj, self.k_proj))
        values = split_heads(self.v_proj(states), self.num_heads)
        bias = None
        if self.distance is Distance.SINUSOID and isinstance(positions, Tensor):
            offsets = split_heads(self.place_proj(positions), self.num_heads)  # [h, 2 t - 1, d]
            bias = _by_key((queries + self.place_bias[:, None]) @ offsets.transpose(1, 2))
            queries = queries + self.content_bias[:, None]
        elif self.distance is Distance.VECTOR and isinstance(positions, Tensor):
            bias = (queries @ self.vectors.weight.t()).gather(3, positions.expand(*queries.shape[:2], -1, -1))
        if bias is not None:
            bias = bias * self.head_dim**-0.5
            mask = forbid(bias, mask)
        dropout = self.dropout if self.training else 0.0
        probs = None
        if inputs.weights:
            out, probs = plain_attention(queries * self.head_dim**-0.5, keys, values, mask, False, dropout)
        else:
            out = F.scaled_dot_product_attention(queries, keys, values, mask, dropout)
        return self.out_proj(out.transpose(1, 2).flatten(2)), probs


def _by_key(scores: Float[Tensor, "batch heads frames distances"]) -> Float[Tensor, "batch heads frames frames"]:
    """Return scores by key from scores by distance: query `q` reads distances `q` down to `q - frames + 1`."""
    frames = scores.shape[2]
    # With one more column, (q, k) is at t + q (2 t - 1) + k of the flat matrix: rows of 2 t - 1, from t on.
    flat = F.pad(scores, (1, 0)).flatten(2)[..., frames:]
    return flat.reshape(*flat.shape[:2], frames, 2 * frames - 1)[..., :frames]


class ConvModule(nn.Module):
    """A gated projection, a depthwise convolution, a norm, a non-linearity and a projection."""

    def __init__(self, spec: BlockSpec, conformer: ConformerSpec) -> None:
        super().__init__()
        width, kernel = spec.width, conformer.kernel
        self.activation, self.dropout = ACTIVATIONS[spec.ffn.activation], conformer.dropout
        self.pads = (kernel - 1, 0) if conformer.causal else (kernel // 2, kernel // 2)
        self.norm = nn.LayerNorm(width, conformer.norm_eps)
        self.in_conv = nn.Conv1d(width, 2 * width, 1, bias=conformer.bias)
        self.depth_conv = nn.Conv1d(width, width, kernel, groups=width, bias=conformer.bias)
        self.depth_norm = nn.LayerNorm(width, conformer.norm_eps) if conformer.causal else nn.BatchNorm1d(width)
        self.out_conv = nn.Conv1d(width, width, 1, bias=conformer.bias)

    def forward(
        self, states: Float[Tensor, "batch frames width"], frame_mask: Bool[Tensor, "batch frames"] | None
    ) -> Float[Tensor, "batch frames width"]:
        """Convolve; frames outside the mask are zero, as beyond the ends of a clip."""
        x = F.glu(self.in_conv(self.norm(states).transpose(1, 2)), dim=1)  # [b, t, w] -> [b, w, t]
        x = x if frame_mask is None else x.masked_fill(~frame_mask[:, None], 0.0)  # after the gate: biases fill padding
        x = self.depth_conv(F.pad(x, self.pads))
        if isinstance(self.depth_norm, nn.LayerNorm):
            x = self.depth_norm(x.transpose(1, 2)).transpose(1, 2)
        else:
            x = self.depth_norm(x)
        return F.dropout(self.out_conv(self.activation(x)).transpose(1, 2), self.dropout, self.training)


class ConformerBlock(nn.Module):
    """A layer of a `Stack`, in place of `Block`."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        conformer = spec.kind
        assert isinstance(conformer, ConformerSpec)
        self.spec, self.attn_dropout = spec, conformer.attn_dropout
        width, eps = spec.width, conformer.norm_eps
        self.ffn1_norm, self.ffn1 = nn.LayerNorm(width, eps), FeedForward(spec.ffn, width)
        self.self_attn_norm, self.self_attn = nn.LayerNorm(width, eps), ConformerAttention(spec.self_attn, conformer)
        self.conv = ConvModule(spec, conformer)
        self.ffn2_norm, self.ffn2 = nn.LayerNorm(width, eps), FeedForward(spec.ffn, width)
        self.final_norm = nn.LayerNorm(width, eps)

    def forward(
        self, index: int, states: Float[Tensor, "batch frames width"], inputs: LayerInputs
    ) -> tuple[Float[Tensor, "batch frames width"], Tensor | None, None]:
        """Return the new states and, if asked for, the attention weights; there is no cross-attention."""
        states = states + 0.5 * self._dropout(self.ffn1(self.ffn1_norm(states)), self.spec.dropout)
        out, probs = self.self_attn(self.self_attn_norm(states), inputs)
        states = states + self._dropout(out, self.attn_dropout)
        states = states + self.conv(states, inputs.frame_mask)
        states = states + 0.5 * self._dropout(self.ffn2(self.ffn2_norm(states)), self.spec.dropout)
        return self.final_norm(states), probs, None

    def _dropout(self, states: Tensor, rate: float) -> Tensor:
        return F.dropout(states, rate, self.training)
