"""From audio to frames: convolutions over raw samples (wav2vec 2.0) or over a log-mel spectrogram (Whisper).

Axes: batch, samples, channels, frames, mels, width.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from dragoman.spec import ConvFrontendSpec, FrontendNorm, MelFrontendSpec
from dragoman.torch.layers import ACTIVATIONS, ChannelNorm, LayerNormChannels

__all__ = ["ConvFrontend", "MelFrontend"]


class ConvLayer(nn.Module):
    """One strided convolution, its normalisation if it has one, its non-linearity."""

    def __init__(self, spec: ConvFrontendSpec, index: int) -> None:
        super().__init__()
        channels_in = spec.channels[index - 1] if index else 1
        channels = spec.channels[index]
        self.kernel, self.stride = spec.kernels[index], spec.strides[index]
        self.conv = nn.Conv1d(channels_in, channels, self.kernel, self.stride, bias=spec.bias)
        self.norm: nn.Module | None = None
        if spec.norm is FrontendNorm.LAYER:
            self.norm = LayerNormChannels(channels)
        elif index == 0:
            self.norm = ChannelNorm(channels)
        self.activation = ACTIVATIONS[spec.activation]

    def forward(self, features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Convolve `[batch, channels, frames]`; return the features and how many frames of each row are valid."""
        features = self.conv(features)
        if lengths is not None:
            lengths = (lengths - self.kernel) // self.stride + 1
        if self.norm is not None:
            features = self.norm(features, lengths)
        return self.activation(features), lengths


class ConvFrontend(nn.Module):
    """The feature encoder of wav2vec 2.0 and its projection to the width of the stack."""

    def __init__(self, spec: ConvFrontendSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.convs = nn.ModuleList(ConvLayer(spec, index) for index in range(len(spec.channels)))
        self.norm = nn.LayerNorm(spec.channels[-1], spec.norm_eps) if spec.feature_norm else None
        self.proj = nn.Linear(spec.channels[-1], width)
        self.gradient_checkpointing = False

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch frames channels"]]:
        """Return the frames for the stack, and the normalised features before their projection.

        Args:
            waveforms: Raw samples.
            lengths: Valid samples of each row, for normalisation over time; `None` trusts every sample.
        """
        features = waveforms[:, None].to(self.proj.weight.dtype)  # [b, 1, n]
        for conv in self.convs:
            if self.gradient_checkpointing and self.training:
                features, lengths = checkpoint(conv, features, lengths, use_reentrant=False)
            else:
                features, lengths = conv(features, lengths)
        features = features.transpose(1, 2)  # [b, c, t] -> [b, t, c]
        if self.norm is not None:
            features = self.norm(features)
        return F.dropout(self.proj(features), self.spec.dropout, self.training), features


class MelFrontend(nn.Module):
    """Whisper's two convolutions; padding is part of its input, so lengths do not matter to it."""

    def __init__(self, spec: MelFrontendSpec, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.conv1 = nn.Conv1d(spec.num_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(
        self, features: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"] | None
    ) -> tuple[Float[Tensor, "batch frames_out width"], None]:
        """Return the frames for the stack."""
        features = self.activation(self.conv1(features.to(self.conv1.weight.dtype)))
        # [b, w, t] -> [b, t, w]
        return self.activation(self.conv2(features)).transpose(1, 2), None
