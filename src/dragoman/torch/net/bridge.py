"""What joins an encoder to a decoder: a projection where widths differ, or speech as a prefix of the tokens."""

from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.spec import BridgeSpec, SpeechEncoderSpec, TextDecoderSpec
from dragoman.torch.net.cache import Memory
from dragoman.torch.net.layers import ACTIVATIONS, Linear, moved, zero_padding
from dragoman.torch.net.text_embedding import TextEmbedding

States: TypeAlias = Float[Tensor, "batch frames width_in"]
Mask: TypeAlias = Bool[Tensor, "batch frames"] | None


class Bridge(nn.Module):
    """A linear layer from the width of the encoder's states to the decoder's; nothing if they are equal."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width_in, width_out) if width_in != width_out else None

    def length(self, frames: int) -> int:
        """Return the number of positions that the memory takes in the decoder's sequence: none."""
        return 0

    def forward(self, states: States, mask: Mask, embed: TextEmbedding) -> Memory:
        """Return the memory for cross-attention."""
        return Memory(states=states if self.proj is None else self.proj(states), mask=mask)


class Prefix(nn.Module):
    """Speech as a prefix of the tokens: neighbouring frames stacked, projected by one layer or two, inside a prompt."""

    def __init__(self, width_in: int, width_out: int, spec: BridgeSpec) -> None:
        super().__init__()
        self.spec, self.prompt = spec, spec.prompt
        inner, two = spec.width or width_out, spec.layers == 2
        self.in_proj = Linear(spec.stacking * width_in, inner if two else width_out, bias=spec.bias)
        self.out_proj = Linear(inner, width_out, bias=spec.bias) if two else None

    def length(self, frames: int) -> int:
        """Return the number of positions that the prefix of `frames` frames takes."""
        return self.spec.length(frames)

    def project(
        self, states: States, mask: Mask
    ) -> tuple[Float[Tensor, "batch positions width_out"], Bool[Tensor, "batch positions"]]:
        """Return the speech as embeddings of the decoder, and which of them are valid."""
        (rows, frames, width), size = states.shape, self.spec.stacking
        counts = states.new_ones(rows, frames, dtype=torch.bool) if mask is None else mask
        kept = self.spec.positions(frames) * size
        stacked = F.pad(zero_padding(states, mask), (0, 0, 0, size - 1))[:, :kept].reshape(rows, -1, size * width)
        counts = F.pad(counts, (0, size - 1))[:, :kept].reshape(rows, -1, size)
        projected = self.in_proj(stacked)
        if self.out_proj is not None:
            projected = self.out_proj(ACTIVATIONS[self.spec.activation](projected))
        return projected, counts.all(-1) if self.spec.whole_groups else counts.any(-1)

    def forward(self, states: States, mask: Mask, embed: TextEmbedding) -> Memory:
        """Return the prefix, padded on the left; its mask is `None` if all frames are valid."""
        speech, counts = self.project(states, mask)
        rows = states.shape[0]
        before, after = (
            embed.look_up(torch.tensor([ids], dtype=torch.long, device=states.device)).expand(rows, -1, -1)
            for ids in self.prompt
        )
        whole = torch.cat([before, speech.to(before.dtype), after], 1)
        if mask is None:
            return Memory(states=whole)
        ones = [counts.new_ones(rows, len(ids)) for ids in self.prompt]
        counts = torch.cat([ones[0], counts, ones[1]], 1)
        # padding moves to the left, so that speech and tokens are adjacent in every row
        return Memory(states=moved(whole, ~counts), mask=moved(counts, ~counts))


def bridge_of(encoder: SpeechEncoderSpec, decoder: TextDecoderSpec, spec: BridgeSpec | None = None) -> Bridge | Prefix:
    """Return what joins an encoder to a decoder: a `Prefix` if its `spec` is given, else a `Bridge`."""
    if spec is None:
        return Bridge(encoder.output_width, decoder.memory_width)
    return Prefix(encoder.output_width, decoder.token_width, spec)
