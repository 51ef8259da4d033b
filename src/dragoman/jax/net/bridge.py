"""What joins an encoder to a decoder: a projection where widths differ, or speech as a prefix of the tokens."""

from typing import TypeAlias

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from dragoman.jax.net.cache import Memory
from dragoman.jax.net.layers import ACTIVATIONS, Linear, zero_padding
from dragoman.jax.net.text_embedding import TextEmbedding
from dragoman.spec import BridgeSpec, SpeechEncoderSpec, TextDecoderSpec

States: TypeAlias = Float[Array, "batch frames width_in"]
Mask: TypeAlias = Bool[Array, "batch frames"] | None


class Bridge(nnx.Module):
    """A linear layer from the width of the encoder's states to the decoder's; nothing if they are equal."""

    def __init__(self, width_in: int, width_out: int) -> None:
        self.proj = Linear(width_in, width_out) if width_in != width_out else None

    def length(self, frames: int) -> int:
        """Return the number of positions that the memory takes in the decoder's sequence: none."""
        return 0

    def __call__(self, states: States, mask: Mask, embed: TextEmbedding) -> Memory:
        """Return the memory for cross-attention."""
        return Memory(states=states if self.proj is None else self.proj(states), mask=mask)


class Prefix(nnx.Module):
    """Speech as a prefix of the tokens: neighbouring frames stacked, projected by one layer or two, inside a prompt."""

    def __init__(self, width_in: int, width_out: int, spec: BridgeSpec) -> None:
        self.spec, self.prompt = spec, spec.prompt
        inner, two = spec.width or width_out, spec.layers == 2
        self.in_proj = Linear(spec.stacking * width_in, inner if two else width_out, bias=spec.bias)
        self.out_proj = Linear(inner, width_out, bias=spec.bias) if two else None

    def length(self, frames: int) -> int:
        """Return the number of positions that the prefix of `frames` frames takes."""
        return self.spec.length(frames)

    def project(
        self, states: States, mask: Mask
    ) -> tuple[Float[Array, "batch positions width_out"], Bool[Array, "batch positions"]]:
        """Return the speech as embeddings of the decoder, and which of them are valid."""
        (rows, frames, width), size = states.shape, self.spec.stacking
        counts = jnp.ones((rows, frames), bool) if mask is None else mask
        kept = self.spec.positions(frames) * size
        stacked = jnp.pad(zero_padding(states, mask), ((0, 0), (0, size - 1), (0, 0)))[:, :kept]
        counts = jnp.pad(counts, ((0, 0), (0, size - 1)))[:, :kept].reshape(rows, -1, size)
        projected = self.in_proj(stacked.reshape(rows, -1, size * width))
        if self.out_proj is not None:
            projected = self.out_proj(ACTIVATIONS[self.spec.activation](projected))
        return projected, counts.all(-1) if self.spec.whole_groups else counts.any(-1)

    def __call__(self, states: States, mask: Mask, embed: TextEmbedding) -> Memory:
        """Return the prefix, padded on the left; its mask is `None` if all frames are valid."""
        (speech, counts), rows = self.project(states, mask), states.shape[0]
        prompt = [embed.look_up(jnp.asarray([ids], jnp.int32)) for ids in self.prompt]
        before, after = (jnp.broadcast_to(x, (rows, *x.shape[1:])) for x in prompt)
        whole = jnp.concatenate([before, speech.astype(before.dtype), after], 1)
        if mask is None:
            return Memory(states=whole)
        ones = [jnp.ones((rows, len(ids)), bool) for ids in self.prompt]
        counts = jnp.concatenate([ones[0], counts, ones[1]], 1)
        # padding moves to the left, so that speech and tokens are adjacent in every row
        order = jnp.argsort(counts, axis=1, stable=True)
        return Memory(
            states=jnp.take_along_axis(whole, order[:, :, None], 1), mask=jnp.take_along_axis(counts, order, 1)
        )


def bridge_of(encoder: SpeechEncoderSpec, decoder: TextDecoderSpec, spec: BridgeSpec | None = None) -> Bridge | Prefix:
    """Return what joins an encoder to a decoder: a `Prefix` if its `spec` is given, else a `Bridge`."""
    if spec is None:
        return Bridge(encoder.output_width, decoder.memory_width)
    return Prefix(encoder.output_width, decoder.token_width, spec)
