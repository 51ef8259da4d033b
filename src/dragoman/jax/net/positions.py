"""Position embeddings of a speech encoder, and the sinusoids of text decoders.

Axes: batch, frames, width.
"""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.errors import AudioError
from dragoman.jax.net.layers import ACTIVATIONS, Conv1d, WeightNormConv1d, param, zero_padding
from dragoman.jax.net.norms import StoredNorm, standardise
from dragoman.spec import ConvPositionSpec, ConvStackPositionSpec, PositionSpec, SinusoidPositionSpec, TablePositionSpec

Frames: TypeAlias = Float[Array, "batch frames width"]
Mask: TypeAlias = Bool[Array, "batch frames"] | None


class ConvPositions(nnx.Module):
    """A wide grouped convolution over the frames (wav2vec 2.0, section 2)."""

    def __init__(self, spec: ConvPositionSpec, width: int) -> None:
        self.activation, self.stride = ACTIVATIONS[spec.activation], spec.stride
        self.conv: Conv1d | WeightNormConv1d
        if spec.batch_norm:
            self.batch_norm: StoredNorm | None = StoredNorm(width)
            self.conv = Conv1d(width, width, spec.kernel, spec.stride, padding=spec.kernel // 2, groups=spec.groups)
        else:
            self.batch_norm = None
            self.conv = WeightNormConv1d(width, spec.kernel, spec.groups, spec.stride)

    def __call__(self, states: Frames, mask: Mask = None) -> Frames:
        """Return the positions to add to `states`, whose padded frames are zero; `mask` keeps them so until convolved.

        With a stride it has fewer frames, as `squeeze.average` of `states` has.
        """
        if self.batch_norm is not None:
            states = zero_padding(self.batch_norm(states), mask)  # the norm's shift makes padding non-zero
        x = self.conv(states)[:, : states.shape[1] // self.stride]  # an even kernel gives one frame too many
        return self.activation(x)


class ConvStackPositions(nnx.Module):
    """Narrower grouped convolutions, one after another, each normalised without weights (data2vec, section 3.1)."""

    def __init__(self, spec: ConvStackPositionSpec, width: int) -> None:
        self.activation = ACTIVATIONS[spec.activation]
        self.layers = nnx.List(
            Conv1d(width, width, spec.kernel, padding=spec.kernel // 2, groups=spec.groups)
            for _ in range(spec.num_layers)
        )

    def __call__(self, states: Frames, mask: Mask = None) -> Frames:
        """Return the positions to add to `states`; `mask` sets padded frames to zero before each convolution."""
        x = states
        for conv in self.layers:
            x = conv(zero_padding(x, mask))[:, : states.shape[1]]  # an even kernel gives one frame too many
            x = self.activation(standardise(x, 1e-5).astype(states.dtype))
        return x


class TablePositions(nnx.Module):
    """One stored vector per frame: Whisper's sinusoids, stored with the weights and not trained."""

    def __init__(self, spec: TablePositionSpec, width: int) -> None:
        self.weight = param(spec.num_positions, width)

    def __call__(self, states: Frames, mask: Mask = None) -> Float[Array, "frames width"]:
        """Return the positions to add to `states`; `mask` is not used.

        Raises:
            AudioError: If there are more frames than positions.
        """
        frames, most = states.shape[1], self.weight.shape[0]
        if frames > most:
            raise AudioError(
                f"The input gives {frames} frames, but this encoder has positions for {most}. "
                "Cut the audio into shorter windows (the Transcriber does)."
            )
        return jax.lax.stop_gradient(self.weight[...][:frames])


class SinusoidPositions(nnx.Module):
    """Sines and cosines, computed for any number of frames; padding has zeros (fairseq's, in speech_to_text)."""

    def __init__(self, spec: SinusoidPositionSpec) -> None:
        self.first, self.period = spec.first, spec.period

    def __call__(self, states: Frames, mask: Mask = None) -> Float[Array, "..."]:
        """Return the positions to add to `states`, `[frames, width]`, or `[batch, frames, width]` with a `mask`."""
        positions = jnp.arange(states.shape[1])
        positions = (positions if self.period is None else positions % self.period) + self.first
        table = sinusoids(positions, states.shape[2]).astype(states.dtype)
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
    positions: Int[Array, "*rows tokens"], width: int, scaled: bool = False
) -> Float[Array, "*rows tokens width"]:
    """Return sines, then cosines, of frequencies that fall from 1 to 1/10,000: fairseq's or, `scaled`, Canary's."""
    half = width // 2
    steps, scale = (half, width**-0.5) if scaled else (half - 1, 1.0)
    frequencies = jnp.exp(jnp.arange(half) * (-math.log(10_000) / steps))
    angles = positions[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1) * scale
