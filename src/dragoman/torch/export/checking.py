"""Graphs compared with PyTorch: the same speech, the same tokens, the same choices of beams.

The sizes differ from those of tracing and from step to step, so that a size that became a constant is found.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragoman.api.outputs import EncoderOutput
from dragoman.errors import CheckpointError
from dragoman.onnx import short_windows
from dragoman.onnx.model import OnnxSpeechEncoderDecoderModel
from dragoman.onnx.session import value_of
from dragoman.onnx.short_windows import SHORT
from dragoman.onnx.steps import GraphDecoder
from dragoman.torch.cached import CachedDecoder
from dragoman.torch.export.examples import audio
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.short_windows import encode_short, encode_silence

_FRAMES, _PROMPT, _STEPS, _BEAMS = 23, 3, 4, 3

TOLERANCE = {"float32": 1e-4, "int8": 0.25}
"""The largest difference of any state or logit that is allowed, as a share of the largest one."""


@dataclass(frozen=True)
class Differences:
    """The largest differences between graphs and PyTorch, as shares of the largest value."""

    states: float
    logits: float

    @property
    def largest(self) -> float:
        """The larger one."""
        return max(self.states, self.logits)


@torch.inference_mode()
def check(model: SpeechEncoderDecoderModel, folder: Path, compute_type: str) -> Differences:
    """Compare the graphs in a folder with the model that they are of.

    Raises:
        CheckpointError: If they differ by more than `TOLERANCE`.
    """
    graphs = OnnxSpeechEncoderDecoderModel(folder)
    found = [_compare(model, graphs, batch, beams) for batch, beams in ((1, 1), (2, _BEAMS))]
    worst = Differences(max(one.states for one in found), max(one.logits for one in found))
    if not worst.largest <= TOLERANCE[compute_type]:
        raise CheckpointError(
            f"The {compute_type} graphs differ from PyTorch by {worst.states:.2g} (encoder) and {worst.logits:.2g} "
            f"(logits) of the largest value; at most {TOLERANCE[compute_type]:g} is allowed. No graphs were written."
        )
    return worst


def _compare(
    model: SpeechEncoderDecoderModel, graphs: OnnxSpeechEncoderDecoderModel, batch: int, beams: int
) -> Differences:
    inputs = audio(model, batch, _FRAMES * batch)
    axis = model.encoder.spec.frontend.time_axis
    lengths = None
    if graphs.graphs.facts.masked and batch > 1:
        lengths = torch.tensor([inputs.shape[axis], model.encoder.spec.shortest_input + inputs.shape[axis] // 2])
        lengths = lengths.clamp(max=inputs.shape[axis])
    expected = model.encoder.encode(inputs, lengths)
    encoded = graphs.encode(inputs.numpy(), None if lengths is None else lengths.numpy())
    memory = model.memory_for(expected)
    assert memory.states is not None
    random = np.random.default_rng(batch)
    prompt = random.integers(0, model.decoder.spec.vocab_size, (batch, _PROMPT))
    extra = model.bridge.length(expected.last_hidden_state.shape[1])
    theirs = CachedDecoder(model.decoder, memory.states, memory.mask, extra + _PROMPT + _STEPS)
    ours = GraphDecoder(graphs.graphs, graphs.memory_for(encoded))
    wanted, got = theirs.start(torch.from_numpy(prompt)), ours.start(prompt)
    apart = [_difference(wanted.logits, got.logits)]
    states: Any = theirs.expand(wanted.state, beams)
    own = ours.expand(got.state, beams)
    for _ in range(_STEPS):
        tokens = random.integers(0, model.decoder.spec.vocab_size, batch * beams)
        rows = (random.integers(0, beams, (batch, beams)) + beams * np.arange(batch)[:, None]).reshape(-1)
        wanted, got = theirs.step(torch.from_numpy(tokens), states), ours.step(tokens, own)
        apart.append(_difference(wanted.logits, got.logits))
        states, own = theirs.select(wanted.state, torch.from_numpy(rows)), ours.select(got.state, rows)
    if not graphs.graphs.facts.prefix:
        apart.append(_alignment_difference(model, graphs, expected, prompt))
    states = [_difference(expected.last_hidden_state, encoded.last_hidden_state)]
    if graphs.graphs.has(SHORT):
        states.append(_short_difference(model, graphs, inputs))
    return Differences(max(states), max(apart))


def _short_difference(model: SpeechEncoderDecoderModel, graphs: OnnxSpeechEncoderDecoderModel, inputs: Tensor) -> float:
    spec, silent = model.encoder.spec, torch.full_like(inputs[:1], -1.0)
    part = inputs[:, :, : inputs.shape[2] // 4 * 2]
    expected = encode_short(model.encoder, part, encode_silence(model.encoder, silent))
    silence = short_windows.encode_silence(graphs.graphs, spec, silent.numpy())
    return _difference(expected, short_windows.encode_short(graphs.graphs, spec, part.numpy(), silence))


def _alignment_difference(
    model: SpeechEncoderDecoderModel,
    graphs: OnnxSpeechEncoderDecoderModel,
    encoded: EncoderOutput,
    tokens: np.ndarray[Any, Any],
) -> float:
    wanted = model.score(encoded, torch.from_numpy(tokens), weights=True).cross_attentions
    assert wanted is not None
    given = EncoderOutput(
        last_hidden_state=encoded.last_hidden_state.numpy(),
        lengths=None if encoded.lengths is None else encoded.lengths.numpy(),
    )
    read = {"tokens": value_of(tokens), **graphs.memory_for(given)}
    found = graphs.graphs.run("alignment", read)["weights"].numpy()
    return _difference(torch.stack([one for one in wanted if one is not None]), found)


def _difference(expected: Tensor, found: np.ndarray[Any, Any]) -> float:
    """Return the largest difference as a share of the largest value."""
    wanted = expected.float().numpy()
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(wanted - found).max() / max(np.abs(wanted).max(), 1e-6))
