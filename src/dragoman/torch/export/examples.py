"""Inputs for tracing, and names of the axes of all inputs and outputs."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from dragoman.onnx.graphs import GraphFacts
from dragoman.onnx.short_windows import SHORT, pairs
from dragoman.spec.positions import TablePositionSpec
from dragoman.torch.net.joint import Joint

_FRAMES, _PAST, _TOKENS, _BEAMS = 6, 3, 2, 2

_AXES: Final[Mapping[str, Mapping[int, str]]] = {
    "input_values": {0: "batch", 1: "samples"},
    "lengths": {0: "batch"},
    "states": {0: "batch", 1: "frames"},
    "frame_lengths": {0: "batch"},
    "memory_mask": {0: "batch", 1: "frames"},
    "prefix": {0: "batch", 1: "prefix"},
    "prefix_mask": {0: "batch", 1: "prefix"},
    "tokens": {0: "rows", 1: "tokens"},
    "parents": {0: "rows"},
    "mask": {0: "rows", 1: "size"},
    "positions": {0: "rows", 1: "new"},
    "logits": {0: "rows"},
    "weights": {1: "rows", 3: "tokens", 4: "frames"},
    "others": {2: "others"},
    "past": {0: "past_rows", 2: "past"},
    "present": {0: "rows", 2: "size"},
    "cross": {0: "batch", 2: "frames"},
}


def axes_of(name: str, model: Joint) -> Mapping[int, str]:
    """Return the axes of an input or output that may have any size."""
    if name == "input_features":
        return {0: "batch", model.encoder.spec.frontend.time_axis: "input_frames"}
    return _AXES[name.partition(".")[0]]


def audio(model: Joint, batch: int, frames: int) -> Tensor:
    """Return noise that gives `frames` frames of the front end, or as many as there are positions or room for."""
    spec = model.encoder.spec
    if isinstance(spec.positions, TablePositionSpec):
        frames = min(frames, spec.positions.num_positions)
    if spec.window is not None:  # a graph is of one window
        frames = min(frames, spec.window)
    size = max(spec.shortest_input, spec.frontend.receptive_field + (frames - 1) * spec.frontend.hop)
    return torch.randn(spec.frontend.input_shape(batch, size), generator=torch.Generator().manual_seed(frames))


def inputs_of(graph: str, model: Joint, facts: GraphFacts, threads: int = 1) -> dict[str, Tensor]:
    """Return an example of each input of a graph, in order."""
    batch, rows = 2, 2 * _BEAMS
    if graph == "encoder":
        given = {model.encoder.spec.input_name: audio(model, batch, _FRAMES)}
        longest = next(iter(given.values())).shape[model.encoder.spec.frontend.time_axis]
        return given | ({"lengths": torch.full((batch,), longest)} if facts.masked else {})
    if graph == SHORT:
        spec, attn = model.encoder.spec, model.encoder.spec.stack.block.self_attn
        other = torch.randn(1, attn.kv_heads, _PAST, attn.head_dim)
        return {spec.input_name: audio(model, batch, _FRAMES), **dict.fromkeys(pairs(spec, "others"), other)}
    if graph == "memory":
        given = {"states": torch.randn(batch, _FRAMES, model.encoder.spec.output_width)}
        return given | ({"frame_lengths": torch.tensor([_FRAMES, _FRAMES - 1])} if facts.masked else {})
    heads = facts.kv_heads
    cross_heads = model.decoder.spec.stack.block.self_attn.kv_heads
    if facts.prefix:
        memory = {
            "prefix": torch.randn(rows, _FRAMES, model.decoder.spec.token_width),
            "mask": torch.ones(rows, _PAST + _FRAMES + _TOKENS, dtype=torch.bool),
            "positions": torch.arange(_FRAMES + _TOKENS).expand(rows, -1).contiguous(),
        }
    else:
        memory = {name: torch.randn(batch, cross_heads, _FRAMES, facts.head_dim) for name in facts.pairs("cross")}
        memory |= {"memory_mask": torch.ones(batch, _FRAMES, dtype=torch.bool)} if facts.masked else {}
    tokens = {"tokens": torch.randint(0, model.decoder.spec.vocab_size, (rows, _TOKENS))}
    if graph == "alignment":
        return {**tokens, **memory}
    past = {name: torch.randn(batch, heads, _PAST, facts.head_dim) for name in facts.pairs("past")}
    return {**tokens, "parents": torch.arange(batch).repeat_interleave(_BEAMS), **past, **memory}
