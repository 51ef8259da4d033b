"""Front ends: convolutions over raw samples (wav2vec 2.0) or spectrograms, or a projection of filter-bank frames.

Axes: batch, samples, channels, frames, mels, bins, width.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dragoman.jax.net.layers import ACTIVATIONS, Conv1d, Conv2d, Key, Lengths, Linear, dropout, frame_mask, zero_padding
from dragoman.jax.net.norms import ChannelNorm, LayerNorm
from dragoman.jax.net.squeeze import windows_of
from dragoman.spec.enums import Activation, FrontendNorm
from dragoman.spec.frontend import (
    ConvFrontendSpec,
    FeatureFrontendSpec,
    FrontendSpec,
    MelFrontendSpec,
    SubsampleFrontendSpec,
)
from dragoman.spec.pieces import PieceFrontendSpec

Mels: TypeAlias = Float[Array, "batch mels frames"]
Bins: TypeAlias = Float[Array, "batch frames bins"]
Frames: TypeAlias = tuple[Float[Array, "batch frames_out width"], None]


class ConvLayer(nnx.Module):
    """One strided convolution, its norm if it has one, its non-linearity."""

    def __init__(self, spec: ConvFrontendSpec, index: int) -> None:
        channels_in = spec.channels[index - 1] if index else 1
        channels = spec.channels[index]
        self.kernel, self.stride = spec.kernels[index], spec.strides[index]
        first = None if index else spec.first_activation
        self.conv = Conv1d(channels_in, channels, self.kernel, self.stride, bias=spec.bias and first is None)
        self.norm: LayerNorm | ChannelNorm | None
        if spec.norm is FrontendNorm.LAYER:
            self.norm = LayerNorm(channels)
        else:
            self.norm = ChannelNorm(channels, together=spec.norm is FrontendNorm.ALL) if index == 0 else None
        self.norm_last = spec.norm is FrontendNorm.ALL
        self.activation = ACTIVATIONS[first or spec.activation]

    def __call__(self, features: Array, lengths: Array | None) -> Array:
        """Convolve `[batch, frames, channels]`; `lengths` are those of the output."""
        features = self.conv(features)
        features = self.activation(features) if self.norm_last else features
        if isinstance(self.norm, ChannelNorm):
            features = self.norm(features, lengths)
        elif self.norm is not None:
            features = self.norm(features)
        return features if self.norm_last else self.activation(features)


class ConvFrontend(nnx.Module):
    """The feature encoder of wav2vec 2.0 and its projection to the width of the stack."""

    def __init__(self, spec: ConvFrontendSpec, width: int) -> None:
        self.spec = spec
        self.convs = nnx.List(ConvLayer(spec, index) for index in range(len(spec.channels)))
        self.norm = LayerNorm(spec.channels[-1], spec.norm_eps) if spec.feature_norm else None
        self.proj = Linear(spec.channels[-1], width) if spec.project else None
        self.gradient_checkpointing = False

    def __call__(
        self, waveforms: Float[Array, "batch samples"], lengths: Lengths, *, frozen: bool = False, key: Key = None
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch frames channels"]]:
        """Return the frames for the stack, and the normalised features before their projection.

        Args:
            waveforms: Raw samples.
            lengths: Valid samples of each row, for normalisation over time; `None` if all are.
            frozen: Let no gradient through to the convolutions.
            key: For dropout.
        """
        features = waveforms[:, :, None].astype(self.convs[0].conv.weight.dtype)  # [b, n, 1]
        for conv in self.convs:
            if lengths is not None:
                lengths = (lengths - conv.kernel) // conv.stride + 1
            saves = self.gradient_checkpointing and key is not None
            features = (jax.checkpoint(conv.__call__) if saves else conv)(features, lengths)
        if frozen:
            features = jax.lax.stop_gradient(features)
        if self.norm is not None:
            features = self.norm(features)
        states = features if self.proj is None else self.proj(features)
        return dropout(states, self.spec.dropout, key), features


class MelFrontend(nnx.Module):
    """Whisper's two convolutions; padding is part of the input, so lengths are not used."""

    def __init__(self, spec: MelFrontendSpec, width: int) -> None:
        self.window = spec.window
        self.activation = ACTIVATIONS[spec.activation]
        self.conv1 = Conv1d(spec.num_mels, width, 3, padding=1)
        self.conv2 = Conv1d(width, width, 3, 2, padding=1)

    def __call__(self, features: Mels, lengths: Lengths, *, frozen: bool = False, key: Key = None) -> Frames:
        """Return the frames for the stack."""
        states = features.swapaxes(1, 2).astype(self.conv1.weight.dtype)  # [b, m, t] -> [b, t, m]
        if self.window is not None and states.shape[1] > self.window:
            states = windows_of(states, self.window)
        states = self.activation(self.conv2(self.activation(self.conv1(states))))
        states = states.reshape(features.shape[0], -1, states.shape[2])
        return (jax.lax.stop_gradient(states) if frozen else states), None


class FeatureFrontend(nnx.Module):
    """Filter-bank frames, each normalised and projected on its own, so that lengths are not used."""

    def __init__(self, spec: FeatureFrontendSpec, width: int) -> None:
        self.dropout = spec.dropout
        self.norm = LayerNorm(spec.num_features, spec.norm_eps)
        self.proj = Linear(spec.num_features, width)

    def __call__(
        self, features: Float[Array, "batch frames bins"], lengths: Lengths, *, frozen: bool = False, key: Key = None
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch frames bins"]]:
        """Return the frames for the stack, and the normalised features before their projection.

        `frozen` has no effect: there are no convolutions.
        """
        features = self.norm(features.astype(self.proj.weight.dtype))
        return dropout(self.proj(features), self.dropout, key), features


class SubsampleFrontend(nnx.Module):
    """Gated convolutions, each of which halves the frame rate, then a scale."""

    def __init__(self, spec: SubsampleFrontendSpec, width: int) -> None:
        self.scale = spec.scale
        between = [spec.channels // 2] * (len(spec.kernels) - 1)
        self.convs = nnx.List(
            Conv1d(channels_in, 2 * channels_out, kernel, 2, padding=kernel // 2)
            for channels_in, channels_out, kernel in zip(
                [spec.num_features, *between], [*between, width], spec.kernels, strict=True
            )
        )

    def __call__(self, features: Bins, lengths: Lengths, *, frozen: bool = False, key: Key = None) -> Frames:
        """Return the frames for the stack; those beyond `lengths` are zero before each convolution."""
        states = features.astype(self.convs[0].weight.dtype)
        for conv in self.convs:
            if lengths is not None:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = (lengths - 1) // 2 + 1
            states = jax.nn.glu(conv(states), axis=-1)
        return (jax.lax.stop_gradient(states) if frozen else states) * self.scale, None


class PlanarFrontend(nnx.Module):
    """Convolutions over frames and bins, each of which halves both, then a projection and a scale (FastConformer)."""

    def __init__(self, spec: SubsampleFrontendSpec, width: int) -> None:
        self.scale, channels = spec.scale, spec.channels
        self.convs = nnx.List(Conv2d(1, channels, kernel) for kernel in spec.kernels)
        self.mixes = nnx.List(Conv2d(channels, channels, 1) for _ in spec.kernels[1:])
        self.proj = Linear(channels * (spec.num_features // spec.hop), width)

    def __call__(self, features: Bins, lengths: Lengths, *, frozen: bool = False, key: Key = None) -> Frames:
        """Return the frames for the stack; those beyond `lengths` are zero before each convolution."""
        x = features.astype(self.convs[0].weight.dtype)[..., None]  # [b, t, f, 1]
        for conv, mix in zip(self.convs, [None, *self.mixes], strict=True):
            if lengths is not None:
                x = jnp.where(frame_mask(lengths, x.shape[1])[:, :, None, None], x, 0.0)
                lengths = (lengths - 1) // 2 + 1
            x = jax.nn.relu(conv(x) if mix is None else mix(conv(x)))
        x = jax.lax.stop_gradient(x) if frozen else x
        # [b, t, f, c] -> [b, t, c * f]
        return self.proj(x.swapaxes(2, 3).reshape(*x.shape[:2], -1)) * self.scale, None


class PieceFrontend(nnx.Module):
    """Convolutions over bins and frames of each piece of a spectrogram, then a projection (Qwen3-ASR)."""

    def __init__(self, spec: PieceFrontendSpec, width: int) -> None:
        self.piece, channels = spec.piece, spec.channels
        self.convs = nnx.List(Conv2d(count, channels, 3) for count in (1, channels, channels))
        self.proj = Linear(channels * spec.bins, width, bias=False)

    def __call__(self, features: Mels, lengths: Lengths, *, frozen: bool = False, key: Key = None) -> Frames:
        """Return the frames for the stack; those of the spectrogram beyond `lengths` are zero."""
        x = features.swapaxes(1, 2).astype(self.proj.weight.dtype)  # [b, m, t] -> [b, t, m]
        x = zero_padding(x, None if lengths is None else frame_mask(lengths, x.shape[1]))
        x = windows_of(x, self.piece).swapaxes(1, 2)[..., None]  # [pieces, m, t, 1]
        for conv in self.convs:
            x = ACTIVATIONS[Activation.GELU](conv(x))
        x = (jax.lax.stop_gradient(x) if frozen else x).transpose(0, 2, 3, 1)  # [pieces, m, t, c] -> [pieces, t, c, m]
        states = self.proj(x.reshape(*x.shape[:2], -1))
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
