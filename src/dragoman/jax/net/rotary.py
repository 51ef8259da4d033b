"""Rotary positions: channel pairs of queries and keys are rotated by angles proportional to their positions.

Axes: rows, heads, tokens (or frames), head_dim, pairs.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dragoman.spec import RotarySpec


@partial(jax.tree_util.register_dataclass, data_fields=["cos", "sin"], meta_fields=["interleaved"])
@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of the angles of some positions, the same for all layers of a stack."""

    cos: Float[Array, "rows 1 tokens pairs"]
    sin: Float[Array, "rows 1 tokens pairs"]
    interleaved: bool = False

    def __call__(self, heads: Float[Array, "rows heads tokens head_dim"]) -> Array:
        """Rotate the first `2 * pairs` channels of each head: `i` with `i + pairs`, or each even one with the next."""
        pairs = self.cos.shape[-1]
        first, second, rest = heads[..., :pairs], heads[..., pairs : 2 * pairs], heads[..., 2 * pairs :]
        if self.interleaved:
            first, second = heads[..., : 2 * pairs : 2], heads[..., 1 : 2 * pairs : 2]
        rotated = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        if self.interleaved:
            return jnp.concatenate((jnp.stack(rotated, -1).reshape(*first.shape[:-1], -1), rest), axis=-1)
        return jnp.concatenate((*rotated, rest), axis=-1)


def rotary_for(spec: RotarySpec, positions: Int[Array, "rows tokens"], like: Array) -> Rotary:
    """Return the rotation of `positions`, `[rows or 1, tokens]`, in the dtype of `like`; the angles are float32."""
    frequencies = jnp.asarray(spec.frequencies, jnp.float32)
    angles = positions[:, None, :, None].astype(jnp.float32) * frequencies  # [rows, 1, tokens, pairs]
    cos, sin = jnp.cos(angles) * spec.magnitude, jnp.sin(angles) * spec.magnitude
    return Rotary(cos.astype(like.dtype), sin.astype(like.dtype), spec.interleaved)
