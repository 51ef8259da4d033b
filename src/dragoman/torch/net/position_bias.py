"""Relative positions in attention scores: a bias for each bucket of distances, perhaps gated.

Axes: batch, frames, tokens, size (tokens so far), heads, head_dim. References: T5, section 2.1,
https://arxiv.org/abs/1910.10683, in decoders; WavLM, section 3.1, https://arxiv.org/abs/2110.13900, in encoders.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dragoman.spec import AttentionSpec, BucketBiasSpec
from dragoman.torch.net.layers import Embedding, forbid, split_heads


@dataclass(frozen=True)
class Distances:
    """Vectors of distances, which the layers of disentangled attention share."""

    vectors: Float[Tensor, "distances width"]
    """A vector for each distance."""
    index: Int[Tensor, "q k"]
    """The index of the vector of each pair of frames."""


def buckets(frames: int, num_buckets: int, max_distance: int, device: torch.device | None = None) -> Int[Tensor, "q k"]:
    """Return the bucket of each pair of frames; the upper half of the buckets is for keys after the query."""
    half = num_buckets // 2
    frame = torch.arange(frames, device=device)
    distance = frame[None, :] - frame[:, None]
    return _bucket(distance.abs(), half, max_distance) + (distance > 0) * half


def _bucket(distance: Int[Tensor, "q k"], count: int, max_distance: int) -> Int[Tensor, "q k"]:
    """Return the bucket, of `count`, of each distance: one each for short ones, logarithmic up to `max_distance`."""
    exact = count // 2
    share = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    log_bucket = (exact + share * (count - exact)).long().clamp(max=count - 1)
    return torch.where(distance < exact, distance, log_bucket)


class BucketBias(nn.Module):
    """One learned bias per bucket and head, shared by all layers."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def forward(self, frames: int) -> Float[Tensor, "heads q k"]:
        """Return the bias of each pair of frames."""
        index = buckets(frames, self.spec.num_buckets, self.spec.max_distance, self.embed.weight.device)
        return self.embed(index).permute(2, 0, 1)  # [q, k, h] -> [h, q, k]


class CausalBucketBias(nn.Module):
    """One learned bias per bucket and head, by distance to earlier tokens, shared by all layers of a decoder."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def forward(
        self, count: int, start: int, size: int, mask: Bool[Tensor, "rows 1 tokens size"] | None
    ) -> Float[Tensor, "rows heads tokens size"]:
        """Return the bias of the scores of the `count` tokens from number `start` on; masked keys get the lowest."""
        own = torch.arange(start, start + count, device=self.embed.weight.device)[:, None]
        back = (own - torch.arange(size, device=own.device)).clamp(min=0)
        index = _bucket(back, self.spec.num_buckets, self.spec.max_distance)
        added = self.embed(index).permute(2, 0, 1)[None]  # [q, k, h] -> [1, h, q, k]
        return forbid(added, mask)


class BiasGate(nn.Module):
    """Scales the shared bias in one layer, per head and query, by a gate computed from the query's frame."""

    def __init__(self, spec: AttentionSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        self.const = nn.Parameter(torch.empty(1, spec.num_heads, 1, 1))
        self.linear = nn.Linear(spec.head_dim, 8)

    def forward(
        self,
        states: Float[Tensor, "batch frames width"],
        bias: Float[Tensor, "heads frames frames"],
        mask: Bool[Tensor, "..."] | None,
    ) -> Float[Tensor, "batch heads frames frames"]:
        """Return the bias of the attention scores; masked keys get the lowest."""
        heads = split_heads(states, self.num_heads)
        first, second = self.linear(heads).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        added = (first * (second * self.const - 1.0) + 2.0) * bias
        return forbid(added, mask)
