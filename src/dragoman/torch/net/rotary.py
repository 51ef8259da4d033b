"""Rotary positions: channel pairs of queries and keys are rotated by angles proportional to their positions.

Axes: rows, heads, tokens (or frames), head_dim, pairs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dragoman.spec import RotarySpec


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of the angles of some positions, the same for all layers of a stack."""

    cos: Float[Tensor, "rows 1 tokens pairs"]
    sin: Float[Tensor, "rows 1 tokens pairs"]
    interleaved: bool = False

    def __call__(self, heads: Float[Tensor, "rows heads tokens head_dim"]) -> Tensor:
        """Rotate the first `2 * pairs` channels of each head: `i` with `i + pairs`, or each even one with the next."""
        pairs = self.cos.shape[-1]
        first, second, rest = heads[..., :pairs], heads[..., pairs : 2 * pairs], heads[..., 2 * pairs :]
        if self.interleaved:
            first, second = heads[..., : 2 * pairs : 2], heads[..., 1 : 2 * pairs : 2]
        rotated = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        if self.interleaved:
            return torch.cat((torch.stack(rotated, -1).flatten(-2), rest), dim=-1)
        return torch.cat((*rotated, rest), dim=-1)


def rotary_for(spec: RotarySpec, positions: Int[Tensor, "rows tokens"], like: Tensor) -> Rotary:
    """Return the rotation of `positions`, `[rows or 1, tokens]`, in the dtype of `like`; the angles are float32."""
    frequencies = torch.tensor(spec.frequencies, dtype=torch.float32, device=like.device)
    angles = positions[:, None, :, None].float() * frequencies  # [rows, 1, tokens, pairs]
    cos, sin = angles.cos() * spec.magnitude, angles.sin() * spec.magnitude
    return Rotary(cos.to(like.dtype), sin.to(like.dtype), spec.interleaved)
