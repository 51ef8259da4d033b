"""The convolutional adapter that shortens the memory of a speech encoder.

Axes: batch, frames, width.
"""

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from dragoman.jax.layers import Conv1d, LayerNorm, Linear, frame_mask, zero_padding
from dragoman.spec import ConvAdapterSpec

__all__ = ["ConvAdapter"]


class ConvAdapter(nnx.Module):
    """Gated strided convolutions, behind a projection where the widths differ (XLS-R, section 4.2)."""

    def __init__(self, spec: ConvAdapterSpec, width: int) -> None:
        self.spec = spec
        projects = spec.width != width
        self.proj = Linear(width, spec.width) if projects else None
        self.norm = LayerNorm(spec.width) if projects else None
        self.layers = nnx.List(
            Conv1d(spec.width, 2 * spec.width, spec.kernel, spec.stride, padding=spec.padding)
            for _ in range(spec.num_layers)
        )

    def __call__(
        self, states: Float[Array, "batch frames width"], lengths: Int[Array, " batch"] | None
    ) -> Float[Array, "batch frames_out width_out"]:
        """Shorten; frames beyond `lengths` are zero at each convolution, as they are at the edge of a single clip."""
        if self.proj is not None and self.norm is not None:
            states = self.norm(self.proj(states))
        for conv in self.layers:
            if lengths is not None:
                states = zero_padding(states, frame_mask(lengths, states.shape[1]))
                lengths = (lengths + 2 * self.spec.padding - self.spec.kernel) // self.spec.stride + 1
            states = jax.nn.glu(conv(states), axis=-1)
        return states
