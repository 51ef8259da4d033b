"""Normalisation of channels, of frames and of channels over time without padding.

Axes: batch, channels, frames, width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import Norm, NormSpec
from dragoman.torch.net.layers import frame_mask


class RMSNorm(nn.Module):
    """Scale the last axis to mean square 1, in float32 whatever the dtype (https://arxiv.org/abs/1910.07467).

    Its weight is stored as it is or, `from_one` (Gemma), minus 1.
    """

    def __init__(self, width: int, eps: float = 1e-6, *, from_one: bool = False) -> None:
        super().__init__()
        self.eps, self.from_one = eps, from_one
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        x = states.to(torch.promote_types(states.dtype, torch.float32))
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return (x * (1.0 + self.weight if self.from_one else self.weight)).to(states.dtype)


def norm_of(spec: NormSpec, width: int) -> nn.Module:
    """Return a normalisation of the last axis."""
    if spec.kind is Norm.LAYER:
        return nn.LayerNorm(width, spec.eps)
    if spec.kind is Norm.LAYER_WITHOUT_BIAS:
        return nn.LayerNorm(width, spec.eps, bias=False)
    return RMSNorm(width, spec.eps, from_one=spec.kind is Norm.RMS_FROM_ONE)


class ChannelNorm(nn.Module):
    """Normalise each channel over time: a group norm with one channel a group, over the valid frames only.

    `transformers` averages over padding too, so that a clip's result depends on its neighbours in the batch; without
    `lengths` this does the same. `together` all channels are one group.
    """

    def __init__(self, channels: int, eps: float = 1e-5, *, together: bool = False) -> None:
        super().__init__()
        self.eps, self.together = eps, together
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(
        self, features: Float[Tensor, "batch channels frames"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch channels frames"]:
        """Normalise; frames beyond `lengths` do not count, and their output is undefined."""
        if lengths is None:
            return F.group_norm(features, 1 if self.together else features.shape[1], self.weight, self.bias, self.eps)
        mask = frame_mask(lengths, features.shape[2])[:, None]  # [b, 1, t]
        x = features.to(torch.promote_types(features.dtype, torch.float32))
        axes: tuple[int, ...] = (1, 2) if self.together else (2,)
        count = lengths[:, None, None].to(x.dtype) * (x.shape[1] if self.together else 1)
        mean = x.masked_fill(~mask, 0.0).sum(axes, keepdim=True) / count
        variance = (x - mean).masked_fill(~mask, 0.0).square().sum(axes, keepdim=True) / count
        scale = self.weight[:, None] * torch.rsqrt(variance + self.eps)
        return ((x - mean) * scale + self.bias[:, None]).to(features.dtype)


class LayerNormChannels(nn.LayerNorm):
    """Normalise each frame over its channels, channels first."""

    def forward(self, features: Float[Tensor, "batch channels frames"], lengths: Tensor | None = None) -> Tensor:
        """Normalise; `lengths` is not used."""
        # [b, c, t] -> [b, t, c] -> [b, c, t]
        return super().forward(features.transpose(1, 2)).transpose(1, 2)
