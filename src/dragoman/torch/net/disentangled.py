"""Disentangled attention: its scores also multiply queries and keys with learned vectors of their distance.

Axes: batch, frames, heads, head_dim, distances, width. Reference: DeBERTa, section 3.1, https://arxiv.org/abs/2006.03654;
buckets and shared projections: DeBERTa v3, section 3, https://arxiv.org/abs/2111.09543.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import BlockSpec, DisentangledSpec
from dragoman.torch.net.attention import plain_attention
from dragoman.torch.net.block import FeedForward
from dragoman.torch.net.layers import Embedding, Linear, forbid, split_heads
from dragoman.torch.net.position_bias import Distances
from dragoman.torch.net.step import LayerInputs


def distance_index(frames: int, spec: DisentangledSpec, device: torch.device | None = None) -> Int[Tensor, "q k"]:
    """Return the index of the vector of each pair of frames; that of distance 0 is `span`."""
    frame = torch.arange(frames, device=device)
    distance = frame[:, None] - frame[None, :]
    if spec.max_distance is not None:
        half = spec.span // 2
        farther = distance.abs().clamp(min=half)
        share = torch.log(farther / half) / torch.log(torch.tensor((spec.max_distance - 1) / half, device=device))
        bucket = (torch.ceil(share * (half - 1)).long() + half) * distance.sign()
        distance = torch.where(distance.abs() <= half, distance, bucket)
    return (distance + spec.span).clamp(0, 2 * spec.span - 1)


class DistanceVectors(nn.Module):
    """The vectors, which all layers share, normalised in some models."""

    def __init__(self, spec: BlockSpec, disentangled: DisentangledSpec) -> None:
        super().__init__()
        self.spec = disentangled
        self.embed = Embedding(2 * disentangled.span, spec.width)
        self.norm = nn.LayerNorm(spec.width, spec.norm.eps) if disentangled.norm else None

    def forward(self, frames: int) -> Distances:
        """Return the vectors of all distances between `frames` frames."""
        vectors = self.embed.weight
        if self.norm is not None:
            vectors = self.norm(vectors)
        return Distances(vectors, distance_index(frames, self.spec, vectors.device))


class DisentangledAttention(nn.Module):
    """Self-attention with scores of query and key, query and distance, and distance and key."""

    def __init__(self, spec: BlockSpec, disentangled: DisentangledSpec) -> None:
        super().__init__()
        self.num_heads, self.head_dim = spec.self_attn.num_heads, spec.self_attn.head_dim
        self.by_query, self.by_key = disentangled.by_query, disentangled.by_key
        self.dropout, self.vector_dropout = spec.self_attn.dropout, spec.dropout
        self.q_proj, self.k_proj = Linear(spec.width, spec.width), Linear(spec.width, spec.width)
        self.v_proj, self.out_proj = Linear(spec.width, spec.width), Linear(spec.width, spec.width)
        own = not disentangled.shared
        self.place_k_proj = Linear(spec.width, spec.width) if own and self.by_query else None
        self.place_q_proj = Linear(spec.width, spec.width) if own and self.by_key else None

    def forward(
        self, states: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "..."] | None, distances: Distances
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch heads frames frames"]]:
        """Attend to all frames; also return the attention weights."""
        projs = self.q_proj, self.k_proj, self.v_proj
        queries, keys, values = (split_heads(proj(states), self.num_heads) for proj in projs)
        scale = (self.head_dim * (1 + self.by_query + self.by_key)) ** -0.5
        vectors = F.dropout(distances.vectors, self.vector_dropout, self.training)
        index = distances.index.expand(*queries.shape[:2], -1, -1)
        bias = queries.new_zeros(())
        if self.by_query:
            offsets = split_heads((self.place_k_proj or self.k_proj)(vectors), self.num_heads)  # [h, p, d]
            bias = bias + (queries @ offsets.transpose(1, 2)).gather(3, index)
        if self.by_key:
            offsets = split_heads((self.place_q_proj or self.q_proj)(vectors), self.num_heads)
            bias = bias + (keys @ offsets.transpose(1, 2)).gather(3, index.transpose(2, 3)).transpose(2, 3)
        bias = (bias * scale).expand(*queries.shape[:3], queries.shape[2])
        bias = forbid(bias, mask)
        dropout = self.dropout if self.training else 0.0
        out, probs = plain_attention(queries * scale, keys, values, bias, False, dropout)
        return self.out_proj(out.transpose(1, 2).flatten(2)), probs


class DisentangledBlock(nn.Module):
    """A layer of a `Stack`, in place of `Block`: attention and a feed-forward network, each added and normalised."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        assert isinstance(spec.kind, DisentangledSpec)
        self.spec = spec
        self.self_attn = DisentangledAttention(spec, spec.kind)
        self.self_attn_norm = nn.LayerNorm(spec.width, spec.norm.eps)
        self.ffn, self.ffn_norm = FeedForward(spec.ffn, spec.width), nn.LayerNorm(spec.width, spec.norm.eps)

    def forward(
        self, index: int, states: Float[Tensor, "batch frames width"], inputs: LayerInputs
    ) -> tuple[Float[Tensor, "batch frames width"], Tensor | None, None]:
        """Return the new states and, if asked for, the attention weights; there is no cross-attention."""
        assert isinstance(inputs.bias, Distances)
        out, probs = self.self_attn(states, inputs.mask, inputs.bias)
        states = self.self_attn_norm(states + F.dropout(out, self.spec.dropout, self.training))
        states = self.ffn_norm(states + F.dropout(self.ffn(states), self.spec.dropout, self.training))
        return states, probs if inputs.weights else None, None
