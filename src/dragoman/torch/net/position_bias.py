"""Relative position bias: tokens or frames look at each other by their distance, and perhaps by what they hold.

Axes: batch, frames, heads, head_dim. References: T5, section 2.1, https://arxiv.org/abs/1910.10683, of a decoder;
WavLM, section 3.1, https://arxiv.org/abs/2110.13900, of an encoder, with gates.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dragoman.spec import AttentionSpec, BucketBiasSpec
from dragoman.torch.net.layers import Embedding, forbid, split_heads

__all__ = ["BiasGate", "BucketBias", "LookBackBias", "buckets"]


def buckets(frames: int, num_buckets: int, max_distance: int, device: torch.device | None = None) -> Int[Tensor, "q k"]:
    """Return the bucket of each pair of frames; the upper half of the buckets is for what comes later."""
    half = num_buckets // 2
    place = torch.arange(frames, device=device)
    distance = place[None, :] - place[:, None]
    return _bucket(distance.abs(), half, max_distance) + (distance > 0) * half


def _bucket(apart: Int[Tensor, "q k"], count: int, max_distance: int) -> Int[Tensor, "q k"]:
    """Return the bucket, of `count`, of each distance: exact for near ones, logarithmic up to `max_distance`."""
    exact = count // 2
    share = torch.log(apart.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + share * (count - exact)).long().clamp(max=count - 1)
    return torch.where(apart < exact, apart, far)


class BucketBias(nn.Module):
    """One learned number a bucket and head, shared by all layers."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def forward(self, frames: int) -> Float[Tensor, "heads q k"]:
        """Return the bias of each pair of frames."""
        index = buckets(frames, self.spec.num_buckets, self.spec.max_distance, self.embed.weight.device)
        return self.embed(index).permute(2, 0, 1)  # [q, k, h] -> [h, q, k]


class LookBackBias(nn.Module):
    """One learned number a bucket and head, by how far back a token looks, shared by all layers of a decoder."""

    def __init__(self, spec: BucketBiasSpec, num_heads: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed = Embedding(spec.num_buckets, num_heads)

    def forward(
        self, count: int, start: int, capacity: int, mask: Bool[Tensor, "rows 1 count capacity"] | None
    ) -> Float[Tensor, "rows heads count capacity"]:
        """Return what to add to the scores of the `count` tokens from number `start` on; the lowest number where `mask`
        forbids looking.
        """
        own = torch.arange(start, start + count, device=self.embed.weight.device)[:, None]
        back = (own - torch.arange(capacity, device=own.device)).clamp(min=0)
        index = _bucket(back, self.spec.num_buckets, self.spec.max_distance)
        added = self.embed(index).permute(2, 0, 1)[None]  # [q, k, h] -> [1, h, q, k]
        return forbid(added, mask)


class BiasGate(nn.Module):
    """How strongly a layer lets the bias act, by what each head sees of the frame that looks."""

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
        """Return what to add to the attention scores; the lowest number where `mask` forbids looking."""
        heads = split_heads(states, self.num_heads)
        first, second = self.linear(heads).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        added = (first * (second * self.const - 1.0) + 2.0) * bias
        return forbid(added, mask)
