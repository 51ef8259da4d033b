"""Position embeddings of a speech encoder, and the sinusoids of text decoders.

Axes: batch, frames, width.
"""

import math
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.errors import AudioError
from dragoman.spec import ConvPositionSpec, ConvStackPositionSpec, PositionSpec, SinusoidPositionSpec, TablePositionSpec
from dragoman.torch.net.layers import ACTIVATIONS, WeightNormConv1d, zero_padding

Frames: TypeAlias = Float[Tensor, "batch frames width"]
Mask: TypeAlias = Bool[Tensor, "batch frames"] | None


class ConvPositions(nn.Module):
    """A wide grouped convolution over the frames (wav2vec 2.0, section 2)."""

    def __init__(self, spec: ConvPositionSpec, width: int) -> None:
        super().__init__()
        self.activation, self.stride = ACTIVATIONS[spec.activation], spec.stride
        self.conv: nn.Module
        if spec.batch_norm:
            self.batch_norm: nn.Module | None = nn.BatchNorm1d(width)
            self.conv = nn.Conv1d(width, width, spec.kernel, spec.stride, padding=spec.kernel // 2, groups=spec.groups)
        else:
            self.batch_norm = None
            self.conv = WeightNormConv1d(width, spec.kernel, spec.groups, spec.stride)

    def forward(self, states: Frames, mask: Mask = None) -> Frames:
        """Return the positions to add to `states`, whose padded frames are zero; `mask` keeps them so until convolved.

        With a stride it has fewer frames, as `squeeze.average` of `states` has.
        """
        if self.batch_norm is not None:
            # [b, t, w] -> [b, w, t] -> [b, t, w]; the norm's shift makes padding non-zero
            states = zero_padding(self.batch_norm(states.transpose(1, 2)).transpose(1, 2), mask)
        x = states.transpose(1, 2)  # [b, t, w] -> [b, w, t]
        x = self.conv(x)[:, :, : states.shape[1] // self.stride]  # an even kernel gives one frame too many
        return self.activation(x).transpose(1, 2)


class ConvStackPositions(nn.Module):
    """Narrower grouped convolutions, one after another, each normalised without weights (data2vec, section 3.1)."""

    def __init__(self, spec: ConvStackPositionSpec, width: int) -> None:
        super().__init__()
        self.activation, self.width = ACTIVATIONS[spec.activation], width
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, spec.kernel, padding=spec.kernel // 2, groups=spec.groups)
            for _ in range(spec.num_layers)
        )

    def forward(self, states: Frames, mask: Mask = None) -> Frames:
        """Return the positions to add to `states`; `mask` sets padded frames to zero before each convolution."""
        x = states
        for conv in self.layers:
            # [b, t, w] -> [b, w, t] -> [b, t, w]; an even kernel gives one frame too many
            x = conv(zero_padding(x, mask).transpose(1, 2))[:, :, : states.shape[1]].transpose(1, 2)
            x = self.activation(F.layer_norm(x, (self.width,)))
        return x


class TablePositions(nn.Module):
    """One stored vector per frame: Whisper's sinusoids, stored with the weights and not trained."""

    def __init__(self, spec: TablePositionSpec, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(spec.num_positions, width), requires_grad=False)

    def forward(self, states: Frames, mask: Mask = None) -> Float[Tensor, "frames width"]:
        """Return the positions to add to `states`; `mask` is not used.

        Raises:
            AudioError: If there are more frames than positions.
        """
        frames = states.shape[1]
        if frames > self.weight.shape[0]:
            raise AudioError(
                f"The input gives {frames} frames, but this encoder has positions for {self.weight.shape[0]}. "
                "Cut the audio into shorter windows (the Transcriber does)."
            )
        return self.weight[:frames]


class SinusoidPositions(nn.Module):
    """Sines and cosines, computed for any number of frames; padding has zeros (fairseq's, in speech_to_text)."""

    def __init__(self, spec: SinusoidPositionSpec) -> None:
        super().__init__()
        self.first, self.period = spec.first, spec.period

    def forward(self, states: Frames, mask: Mask = None) -> Float[Tensor, "..."]:
        """Return the positions to add to `states`, `[frames, width]`, or `[batch, frames, width]` with a `mask`."""
        positions = torch.arange(states.shape[1], device=states.device)
        positions = (positions if self.period is None else positions % self.period) + self.first
        table = sinusoids(positions, states.shape[2]).to(states.dtype)
        return table if mask is None else table * mask[:, :, None]


Positions = ConvPositions | ConvStackPositions | TablePositions | SinusoidPositions


def positions_of(spec: PositionSpec, width: int) -> Positions:
    """Build the positions that a spec describes."""
    if isinstance(spec, ConvPositionSpec):
        return ConvPositions(spec, width)
    if isinstance(spec, ConvStackPositionSpec):
        return ConvStackPositions(spec, width)
    return TablePositions(spec, width) if isinstance(spec, TablePositionSpec) else SinusoidPositions(spec)


def sinusoids(
    positions: Int[Tensor, "*rows tokens"], width: int, scaled: bool = False
) -> Float[Tensor, "*rows tokens width"]:
    """Return sines, then cosines, of frequencies that fall from 1 to 1/10,000: fairseq's or, `scaled`, Canary's."""
    half = width // 2
    steps, scale = (half, width**-0.5) if scaled else (half - 1, 1.0)
    frequencies = torch.exp(torch.arange(half, device=positions.device) * (-math.log(10_000) / steps))
    angles = positions[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1) * scale
