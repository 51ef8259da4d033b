"""The state of a decoder between steps, as values: keys and values of its own tokens and of the memory.

Axes: layers, rows (utterances, or utterances x beams), batch (utterances), heads, capacity, frames, head_dim.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dragoman.torch.net.attention import Attention, KeysValues


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Encoder states as the decoder reads them.

    Either raw `states`, which each layer projects (training), or `keys` and `values` of all layers, projected once per
    utterance and shared by its beams (generation).
    """

    states: Float[Tensor, "batch frames width"] | None = None
    keys: Float[Tensor, "layers batch heads frames head_dim"] | None = None
    values: Float[Tensor, "layers batch heads frames head_dim"] | None = None
    mask: Bool[Tensor, "batch frames"] | None = None

    def layer(self, index: int, attention: Attention) -> KeysValues:
        """Return the keys and values of a layer."""
        if self.keys is not None and self.values is not None:
            return self.keys[index], self.values[index]
        assert self.states is not None
        return attention.project(self.states)

    @property
    def attention_mask(self) -> Bool[Tensor, "batch 1 1 frames"] | None:
        """The mask, broadcastable to attention scores."""
        return None if self.mask is None else self.mask[:, None, None, :]


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of the tokens so far, in buffers that are allocated once and filled from the left.

    `write` fills the buffers in place and `advanced` returns the value with the new length: the buffers have one owner,
    the newest value.

    Attributes:
        keys: Keys of all layers.
        values: Values of all layers.
        length: Number of valid tokens.
        prefix_mask: Where speech comes before the text, which of its positions, the first ones, are valid.
        text_mask: Where prompts differ in length, which tokens after the prefix are valid; padding on the left is not.
            Tokens beyond its end are.
    """

    keys: Float[Tensor, "layers rows heads capacity head_dim"]
    values: Float[Tensor, "layers rows heads capacity head_dim"]
    length: int = 0
    prefix_mask: Bool[Tensor, "rows prefix"] | None = None
    text_mask: Bool[Tensor, "rows prompt"] | None = None

    @property
    def rows(self) -> int:
        """Number of sequences."""
        return self.keys.shape[1]

    @property
    def prefix_length(self) -> int:
        """Number of positions that speech takes."""
        return 0 if self.prefix_mask is None else self.prefix_mask.shape[1]

    @property
    def capacity(self) -> int:
        """Number of tokens that fit."""
        return self.keys.shape[3]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Store keys and values of new tokens in a layer; return those of all tokens so far."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advanced(self, tokens: int) -> "Cache":
        """Return the cache with `tokens` more valid tokens."""
        return replace(self, length=self.length + tokens)

    def expanded(self, num_beams: int) -> "Cache":
        """Return a cache with each row repeated `num_beams` times."""
        prefix, text = self.prefix_mask, self.text_mask
        return replace(
            self,
            keys=self.keys.repeat_interleave(num_beams, 1),
            values=self.values.repeat_interleave(num_beams, 1),
            prefix_mask=None if prefix is None else prefix.repeat_interleave(num_beams, 0),
            text_mask=None if text is None else text.repeat_interleave(num_beams, 0),
        )

    def selected(self, parents: Int[Tensor, " rows"]) -> "Cache":
        """Return the cache in which each row continues the row given by `parents`; only valid tokens are copied."""
        for buffer in self.keys, self.values:
            valid = buffer[:, :, :, : self.length]
            valid.copy_(valid.index_select(1, parents))
        return self  # a parent is a beam of the same utterance, so prefix and prompt are the same

    def grown(self, capacity: int) -> "Cache":
        """Return a cache with room for at least `capacity` tokens."""
        if capacity <= self.capacity:
            return self
        padding = (0, 0, 0, max(capacity, 2 * self.capacity) - self.capacity)
        return replace(
            self, keys=torch.nn.functional.pad(self.keys, padding), values=torch.nn.functional.pad(self.values, padding)
        )
