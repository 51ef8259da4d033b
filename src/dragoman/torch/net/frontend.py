"""Front ends: convolutions over raw samples (wav2vec 2.0) or spectrograms, or a projection of filter-bank frames.

Axes: batch, samples, channels, frames, mels, bins, width.
"""

from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from dragoman.spec.enums import FrontendNorm
from dragoman.spec.frontend import (
    ConvFrontendSpec,
    FeatureFrontendSpec,
    FrontendSpec,
    MelFrontendSpec,
    SubsampleFrontendSpec,
)
from dragoman.spec.pieces import PieceFrontendSpec
from dragoman.torch.net.layers import ACTIVATIONS, frame_mask, zero_padding
from dragoman.torch.net.norms import ChannelNorm, LayerNormChannels
from dragoman.torch.net.squeeze import windows_of

Mels: TypeAlias = Float[Tensor, "batch mels frames"]
Bins: TypeAlias = Float[Tensor, "batch frames bins"]
Frames: TypeAlias = tuple[Float[Tensor, "batch frames_out width"], None]


class ConvLayer(nn.Module):
    """One strided convolution, its norm if it has one, its non-linearity."""

    def __init__(self, spec: ConvFrontendSpec, index: int) -> None:
        super().__init__()
        channels_in = spec.channels[index - 1] if index else 1
        channels = spec.channels[index]
        self.kernel, self.stride = spec.kernels[index], spec.strides[index]
        first = None if index else spec.first_activation
        self.conv = nn.Conv1d(channels_in, channels, self.kernel, self.stride, bias=spec.bias and first is None)
        self.norm: nn.Module | None = None
        if spec.norm is FrontendNorm.LAYER:
            self.norm = LayerNormChannels(channels)
        elif index == 0:
            self.norm = ChannelNorm(channels, together=spec.norm is FrontendNorm.ALL)
        self.norm_last = spec.norm is FrontendNorm.ALL
        self.activation = ACTIVATIONS[first or spec.activation]

    def forward(self, features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Convolve `[batch, channels, frames]`; return the features and the number of valid frames of each row."""
        features = self.conv(features)
        if lengths is not None:
            lengths = (lengths - self.kernel) // self.stride + 1
        features = self.activation(features) if self.norm_last else features
        if self.norm is not None:
            features = self.norm(features, lengths)
        return features if self.norm_last else self.activation(features), lengths


class ConvFrontend(nn.Module):
    """The feature encoder of wav2vec 2.0 and its projection to the width of the stack."""

    def __init__(self, spec: ConvFrontendSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.convs = nn.ModuleList(ConvLayer(spec, index) for index in range(len(spec.channels)))
        self.norm = nn.LayerNorm(spec.channels[-1], spec.norm_eps) if spec.feature_norm else None
        self.proj = nn.Linear(spec.channels[-1], width) if spec.project else None
        self.gradient_checkpointing = 0

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch frames channels"]]:
        """Return the frames for the stack, and the normalised features before their projection.

        Args:
            waveforms: Raw samples.
            lengths: Valid samples of each row, for normalisation over time; `None` if all are.
        """
        features = waveforms[:, None].to(next(self.parameters()).dtype)  # [b, 1, n]
        for conv in self.convs:
            if self.gradient_checkpointing and self.training:
                features, lengths = checkpoint(conv, features, lengths, use_reentrant=False)
            else:
                features, lengths = conv(features, lengths)
        features = features.transpose(1, 2)  # [b, c, t] -> [b, t, c]
        if self.norm is not None:
            features = self.norm(features)
        states = features if self.proj is None else self.proj(features)
        return F.dropout(states, self.spec.dropout, self.training), features


class MelFrontend(nn.Module):
    """Whisper's two convolutions; padding is part of the input, so lengths are not used."""

    def __init__(self, spec: MelFrontendSpec, width: int) -> None:
        super().__init__()
        self.window = spec.window
        self.activation = ACTIVATIONS[spec.activation]
        self.conv1 = nn.Conv1d(spec.num_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, features: Mels, lengths: Int[Tensor, " batch"] | None) -> Frames:
        """Return the frames for the stack."""
        rows, features = features.shape[0], features.to(self.conv1.weight.dtype)
        if self.window is not None and features.shape[2] > self.window:
            features = windows_of(features.transpose(1, 2), self.window).transpose(1, 2)
        features = self.activation(self.conv2(self.activation(self.conv1(features))))  # [windows, w, t]
        return features.transpose(1, 2).reshape(rows, -1, features.shape[1]), None


class FeatureFrontend(nn.Module):
    """Filter-bank frames, each normalised and projected on its own, so that lengths are not used."""

    def __init__(self, spec: FeatureFrontendSpec, width: int) -> None:
        super().__init__()
        self.dropout = spec.dropout
        self.norm = nn.LayerNorm(spec.num_features, spec.norm_eps)
        self.proj = nn.Linear(spec.num_features, width)

    def forward(
        self, features: Float[Tensor, "batch frames bins"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch frames bins"]]:
        """Return the frames for the stack, and the normalised features before their projection."""
        features = self.norm(features.to(self.norm.weight.dtype))
        return F.dropout(self.proj(features), self.dropout, self.training), features


class SubsampleFrontend(nn.Module):
    """Gated convolutions, each of which halves the frame rate, then a scale."""

    def __init__(self, spec: SubsampleFrontendSpec, width: int) -> None:
        super().__init__()
        self.scale = spec.scale
        between = [spec.channels // 2] * (len(spec.kernels) - 1)
        self.convs = nn.ModuleList(
            nn.Conv1d(channels_in, 2 * channels_out, kernel, 2, padding=kernel // 2)
            for channels_in, channels_out, kernel in zip(
                [spec.num_features, *between], [*between, width], spec.kernels, strict=True
            )
        )

    def forward(self, features: Bins, lengths: Int[Tensor, " batch"] | None) -> Frames:
        """Return the frames for the stack; those beyond `lengths` are zero before each convolution."""
        states = features.to(next(self.parameters()).dtype)
        for conv in self.convs:
            if lengths is not None:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = (lengths - 1) // 2 + 1
            # [b, t, c] -> [b, 2c, t'] -> [b, t', c]
            states = F.glu(conv(states.transpose(1, 2)), dim=1).transpose(1, 2)
        return states * self.scale, None


class PlanarFrontend(nn.Module):
    """Convolutions over frames and bins, each of which halves both, then a projection and a scale (FastConformer)."""

    def __init__(self, spec: SubsampleFrontendSpec, width: int) -> None:
        super().__init__()
        self.scale, channels = spec.scale, spec.channels
        groups = [1] + [channels] * (len(spec.kernels) - 1)  # all but the first convolve each channel on its own
        self.convs = nn.ModuleList(
            nn.Conv2d(count, channels, kernel, 2, padding=kernel // 2, groups=count)
            for count, kernel in zip(groups, spec.kernels, strict=True)
        )
        self.mixes = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in groups[1:])
        self.proj = nn.Linear(channels * (spec.num_features // spec.hop), width)

    def forward(self, features: Bins, lengths: Int[Tensor, " batch"] | None) -> Frames:
        """Return the frames for the stack; those beyond `lengths` are zero before each convolution."""
        x = features.to(next(self.convs.parameters()).dtype)[:, None]  # [b, 1, t, f]
        for conv, mix in zip(self.convs, [None, *self.mixes], strict=True):
            if lengths is not None:
                x = x.masked_fill(~frame_mask(lengths, x.shape[2])[:, None, :, None], 0.0)
                lengths = (lengths - 1) // 2 + 1
            x = F.relu(conv(x) if mix is None else mix(conv(x)))
        # [b, c, t, f] -> [b, t, c * f]
        return self.proj(x.transpose(1, 2).flatten(2)) * self.scale, None


class PieceFrontend(nn.Module):
    """Convolutions over bins and frames of each piece of a spectrogram, then a projection (Qwen3-ASR)."""

    def __init__(self, spec: PieceFrontendSpec, width: int) -> None:
        super().__init__()
        self.piece, channels = spec.piece, spec.channels
        self.convs = nn.ModuleList(nn.Conv2d(count, channels, 3, 2, padding=1) for count in (1, channels, channels))
        self.proj = nn.Linear(channels * spec.bins, width, bias=False)

    def forward(self, features: Mels, lengths: Int[Tensor, " batch"] | None) -> Frames:
        """Return the frames for the stack; those of the spectrogram beyond `lengths` are zero."""
        x = features.to(self.proj.weight.dtype).transpose(1, 2)  # [b, m, t] -> [b, t, m]
        x = zero_padding(x, None if lengths is None else frame_mask(lengths, x.shape[1]))
        x = windows_of(x, self.piece).transpose(1, 2)[:, None]  # [pieces, 1, m, t]
        for conv in self.convs:
            x = F.gelu(conv(x))
        states = self.proj(x.permute(0, 3, 1, 2).flatten(2))  # [pieces, c, m, t] -> [pieces, t, c * m]
        return states.reshape(features.shape[0], -1, states.shape[2]), None


Frontend = ConvFrontend | MelFrontend | FeatureFrontend | SubsampleFrontend | PlanarFrontend | PieceFrontend


def frontend_of(spec: FrontendSpec, width: int) -> Frontend:
    """Build the front end that a spec describes."""
    if isinstance(spec, SubsampleFrontendSpec):
        return (PlanarFrontend if spec.planar else SubsampleFrontend)(spec, width)
    if isinstance(spec, ConvFrontendSpec):
        return ConvFrontend(spec, width)
    if isinstance(spec, PieceFrontendSpec):
        return PieceFrontend(spec, width)
    return MelFrontend(spec, width) if isinstance(spec, MelFrontendSpec) else FeatureFrontend(spec, width)
