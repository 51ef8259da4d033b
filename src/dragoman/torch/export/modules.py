"""The parts of a model as modules whose arguments and results are tensors: what becomes a graph each.

Their inputs and outputs are listed in `dragoman.onnx.graphs`. Axes: batch (utterances), rows (utterances x beams),
tokens, frames, past (earlier tokens), prefix (positions of speech before the text).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dragoman.api.outputs import EncoderOutput
from dragoman.onnx.graphs import GraphFacts
from dragoman.onnx.short_windows import SHORT
from dragoman.torch.net.cache import Memory
from dragoman.torch.net.joint import Joint
from dragoman.torch.net.text_decoder import TextDecoderNet
from dragoman.torch.short_windows import GrowingCache, encode_part


class EncoderGraph(nn.Module):
    """From audio to states."""

    def __init__(self, model: Joint, facts: GraphFacts) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, inputs: Tensor, lengths: Int[Tensor, " batch"] | None = None) -> tuple[Tensor, ...]:
        """Return the states and, with `lengths`, the number of valid frames of each row."""
        out = self.encoder.encode(inputs, lengths, weights=True)  # by products that every runtime has
        return (out.last_hidden_state,) if out.lengths is None else (out.last_hidden_state, out.lengths)


class ShortGraph(nn.Module):
    """From the features of a window's first frames, and what the layers know of the others, to their states."""

    def __init__(self, model: Joint, facts: GraphFacts) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, features: Float[Tensor, "batch mels inputs"], *others: Tensor) -> tuple[Tensor, ...]:
        """Return the states, and keys and values of all frames."""
        states, present = encode_part(self.encoder, features, others, weights=True)
        return (states, *present)


class MemoryGraph(nn.Module):
    """From states to what the decoder reads of them."""

    def __init__(self, model: Joint, facts: GraphFacts) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, states: Float[Tensor, "batch frames width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> tuple[Tensor, ...]:
        """Return keys and values of all layers, or a prefix; with `lengths` also the mask."""
        memory = self.model.memory_for(EncoderOutput(last_hidden_state=states, lengths=lengths))
        assert memory.states is not None
        found = [memory.states]
        stack = self.model.decoder.stack
        if stack.spec.block.cross_attn is not None:
            found = [one for layer in stack.blocks() for one in layer.cross_attn.project(memory.states)]
        return (*found, *(() if memory.mask is None else (memory.mask,)))


class DecoderGraph(nn.Module):
    """From new tokens, and the keys and values of earlier ones, to the logits of the next."""

    def __init__(self, model: Joint, facts: GraphFacts) -> None:
        super().__init__()
        self.decoder, self.facts = model.decoder, facts

    def forward(
        self, tokens: Int[Tensor, "rows tokens"], parents: Int[Tensor, " rows"], *rest: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the logits and all keys and values; `rest` is the past, then the memory."""
        facts, count = self.facts, 2 * self.facts.num_layers
        past, memory = [one.index_select(0, parents) for one in rest[:count]], rest[count:]
        cache = GrowingCache(keys=tuple(past[::2]), values=tuple(past[1::2]), length=past[0].shape[2])
        if facts.prefix:
            prefix, mask, positions = memory
            embeds = torch.cat([prefix, self.decoder.embed.look_up(tokens)], 1)
            out, _ = self.decoder.decode(
                None, None, cache, embeds=embeds, token_mask=mask, positions=positions, weights=True
            )
        else:
            read = _memory_of(memory, facts)
            out, _ = self.decoder.decode(
                tokens, read, cache, positions=_positions(self.decoder, tokens, cache.length), weights=True
            )
        return (self.decoder.logits(out.states[:, -1]), *cache.present)


class AlignmentGraph(nn.Module):
    """From a transcript to the cross-attention weights of all layers."""

    def __init__(self, model: Joint, facts: GraphFacts) -> None:
        super().__init__()
        self.decoder, self.facts = model.decoder, facts

    def forward(
        self, tokens: Int[Tensor, "rows tokens"], *memory: Tensor
    ) -> Float[Tensor, "layers rows heads tokens frames"]:
        read = _memory_of(memory, self.facts)
        out, _ = self.decoder.decode(tokens, read, positions=_positions(self.decoder, tokens, 0), weights=True)
        assert out.cross_weights is not None
        return torch.stack([one for one in out.cross_weights if one is not None])


def _memory_of(given: tuple[Tensor, ...], facts: GraphFacts) -> Memory:
    """Return keys, values and mask as the decoder takes them."""
    count = 2 * facts.num_layers
    mask: Bool[Tensor, "batch frames"] | None = given[count] if facts.masked else None
    return Memory(keys=given[:count:2], values=given[1:count:2], mask=mask)  # type: ignore[arg-type]


def _positions(decoder: TextDecoderNet, tokens: Tensor, start: int) -> Int[Tensor, "rows tokens"] | None:
    """Return the numbers of new tokens, as values that depend on the inputs of the graph.

    Where padding has a position of its own, the embedding counts the tokens itself.
    """
    table = decoder.spec.embed.positions
    if table is not None and table.padding_has_own_position:
        return None
    return (start + torch.arange(tokens.shape[1])).expand(tokens.shape[0], -1)


GRAPHS = {
    "encoder": EncoderGraph,
    SHORT: ShortGraph,
    "memory": MemoryGraph,
    "decoder": DecoderGraph,
    "alignment": AlignmentGraph,
}
"""The module of each graph."""
