"""What a decoder remembers between steps, as values: its own keys and values, and those of the memory.

Axes: layers, rows (utterances, or utterances x beams), batch (utterances), heads, capacity, frames, head_dim.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dragoman.torch.net.attention import Attention, KeysValues

__all__ = ["Cache", "Memory"]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Encoder states as the decoder sees them.

    Either raw `states`, projected by each layer as it goes (training), or `keys` and `values` of all layers, projected
    once per utterance and shared by its beams (generation).
    """

    states: Float[Tensor, "batch frames width"] | None = None
    keys: Float[Tensor, "layers batch heads frames head_dim"] | None = None
    values: Float[Tensor, "layers batch heads frames head_dim"] | None = None
    mask: Bool[Tensor, "batch frames"] | None = None

    def layer(self, index: int, attention: Attention) -> KeysValues:
        """Return the keys and values that a layer looks at."""
        if self.keys is not None and self.values is not None:
            return self.keys[index], self.values[index]
        assert self.states is not None
        return attention.project(self.states)

    @property
    def attention_mask(self) -> Bool[Tensor, "batch 1 1 frames"] | None:
        """The mask as attention takes it."""
        return None if self.mask is None else self.mask[:, None, None, :]


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of the tokens so far, in buffers that are allocated once and filled from the left.

    `length` tokens are valid. Where speech comes before the text, the first places are the speech's, and `prefix_mask`
    says which of them count. Where texts begin with prompts of several lengths, `text_mask` says which of the first
    tokens count, padding on the left not; later ones all do. `write` fills the buffers in place and `advanced` returns
    the value with the new length: the buffers have one owner, the newest value.
    """

    keys: Float[Tensor, "layers rows heads capacity head_dim"]
    values: Float[Tensor, "layers rows heads capacity head_dim"]
    length: int = 0
    prefix_mask: Bool[Tensor, "rows prefix"] | None = None
    text_mask: Bool[Tensor, "rows prompt"] | None = None

    @property
    def rows(self) -> int:
        """How many texts there are."""
        return self.keys.shape[1]

    @property
    def prefix_length(self) -> int:
        """How many places are the speech's."""
        return 0 if self.prefix_mask is None else self.prefix_mask.shape[1]

    @property
    def capacity(self) -> int:
        """How many tokens fit."""
        return self.keys.shape[3]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Store the new tokens' keys and values of a layer; return those of all tokens so far."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advanced(self, tokens: int) -> "Cache":
        """Return the cache with `tokens` more valid."""
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
        """Return the cache in which each row continues the row `parents` names; only valid tokens are copied."""
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
            self,
            keys=torch.nn.functional.pad(self.keys, padding),
            values=torch.nn.functional.pad(self.values, padding),
        )
