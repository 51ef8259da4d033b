"""The state of a decoder between steps, as values: keys and values of its own tokens and of the memory.

Unlike in PyTorch, each layer has its own array: a slice of a stacked array would be copied at every step.
Axes: rows (utterances, or utterances x beams), batch (utterances), heads, capacity, frames, head_dim.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dragoman.jax.net.attention import Attention, KeysValues


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Memory:
    """Encoder states as the decoder reads them.

    Either raw `states`, which each layer projects (training), or `keys` and `values` of all layers, projected once per
    utterance and shared by its beams (generation).
    """

    states: Float[Array, "batch frames width"] | None = None
    keys: tuple[Float[Array, "batch heads frames head_dim"], ...] | None = None
    values: tuple[Float[Array, "batch heads frames head_dim"], ...] | None = None
    mask: Bool[Array, "batch frames"] | None = None

    def layer(self, index: int, attention: Attention) -> KeysValues:
        """Return the keys and values of a layer."""
        if self.keys is not None and self.values is not None:
            return self.keys[index], self.values[index]
        assert self.states is not None
        return attention.project(self.states)

    @property
    def attention_mask(self) -> Bool[Array, "batch 1 1 frames"] | None:
        """The mask, broadcastable to attention scores."""
        return None if self.mask is None else self.mask[:, None, None, :]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of the tokens so far, in buffers of a fixed size that are filled from the left.

    Every method returns a new value; inside `jit` XLA reuses the buffers of the old one.

    Attributes:
        keys: Keys of each layer.
        values: Values of each layer.
        length: Number of valid tokens.
        prefix_mask: Where speech comes before the text, which of its positions, the first ones, are valid.
        text_mask: Where prompts differ in length, which tokens after the prefix are valid; padding on the left is not.
            Tokens beyond its end are.
        memory: Keys and values of the encoded speech, for calls that do not pass them separately.
    """

    keys: tuple[Float[Array, "rows heads capacity head_dim"], ...]
    values: tuple[Float[Array, "rows heads capacity head_dim"], ...]
    length: Int[Array, ""]
    prefix_mask: Bool[Array, "rows prefix"] | None = None
    text_mask: Bool[Array, "rows prompt"] | None = None
    memory: Memory | None = None

    @property
    def rows(self) -> int:
        """Number of sequences."""
        return self.keys[0].shape[0]

    @property
    def prefix_length(self) -> int:
        """Number of positions that speech takes."""
        return 0 if self.prefix_mask is None else int(self.prefix_mask.shape[1])

    @property
    def capacity(self) -> int:
        """Number of tokens that fit."""
        return int(self.keys[0].shape[2]) if self.keys else 0

    def write(self, layer: int, keys: Array, values: Array) -> "Cache":
        """Return the cache with keys and values of new tokens stored in a layer."""

        def put(buffers: tuple[Array, ...], new: Array) -> tuple[Array, ...]:
            changed = lax.dynamic_update_slice_in_dim(buffers[layer], new, self.length, axis=2)
            return (*buffers[:layer], changed, *buffers[layer + 1 :])

        return replace(self, keys=put(self.keys, keys), values=put(self.values, values))

    def layer(self, index: int) -> KeysValues:
        """Return the keys and values of a layer, positions not yet written included."""
        return self.keys[index], self.values[index]

    def advanced(self, tokens: int) -> "Cache":
        """Return the cache with `tokens` more valid tokens."""
        return replace(self, length=self.length + tokens)

    def expanded(self, num_beams: int) -> "Cache":
        """Return a cache with each row repeated `num_beams` times."""
        return self._rows(lambda x: jnp.repeat(x, num_beams, axis=0))

    def selected(self, parents: Int[Array, " rows"]) -> "Cache":
        """Return the cache in which each row continues the row given by `parents`."""
        return self._rows(lambda x: jnp.take(x, parents, axis=0))

    def grown(self, capacity: int) -> "Cache":
        """Return a cache with room for at least `capacity` tokens."""
        if capacity <= self.capacity:
            return self
        more = max(capacity, 2 * self.capacity) - self.capacity
        return self._changed(lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, more), (0, 0))))

    def _rows(self, change: Callable[[Array], Array]) -> "Cache":
        prefix, text = (None if x is None else change(x) for x in (self.prefix_mask, self.text_mask))
        return replace(self._changed(change), prefix_mask=prefix, text_mask=text)

    def _changed(self, change: Callable[[Array], Array]) -> "Cache":
        return replace(self, keys=tuple(map(change, self.keys)), values=tuple(map(change, self.values)))
