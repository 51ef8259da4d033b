"""Whisper's encoder on the speech of a window alone, in ONNX Runtime; `dragoman.torch.short_windows` in graphs.

Axes: batch, mels, inputs (frames of the spectrogram), frames, width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dragoman.onnx.session import Graphs, value_of
from dragoman.spec import SpeechEncoderSpec

SHORT = "short"
"""Name of the graph."""


def pairs(spec: SpeechEncoderSpec, kind: str) -> list[str]:
    """Return the names of keys and values of all layers of an encoder; `kind` is "others" or "present"."""
    return [f"{kind}.{layer}.{name}" for layer in range(spec.stack.num_layers) for name in ("key", "value")]


@dataclass(frozen=True)
class Silence:
    """A silent window: its states `[1, frames, width]`, and keys and values of each layer, in turn."""

    states: np.ndarray[Any, Any]
    keys_values: Sequence[np.ndarray[Any, Any]]


def encode_silence(
    graphs: Graphs, spec: SpeechEncoderSpec, features: Float[np.ndarray[Any, Any], "1 mels inputs"]
) -> Silence:
    """Encode a silent window."""
    attn = spec.stack.block.self_attn
    nothing = np.zeros((1, attn.kv_heads, 0, attn.head_dim), np.float32)
    read = {spec.input_name: value_of(features), **dict.fromkeys(pairs(spec, "others"), value_of(nothing))}
    out = graphs.run(SHORT, read)
    return Silence(out["states"].numpy(), [out[name].numpy() for name in pairs(spec, "present")])


def encode_short(
    graphs: Graphs,
    spec: SpeechEncoderSpec,
    features: Float[np.ndarray[Any, Any], "batch mels inputs"],
    silence: Silence,
) -> Float[np.ndarray[Any, Any], "batch frames width"]:
    """Return the states of whole windows that are silent after `features`."""
    count = int(spec.frame_lengths(features.shape[2])) - 1
    others = [value_of(one[:, :, count:]) for one in silence.keys_values]
    read = {spec.input_name: value_of(features), **dict(zip(pairs(spec, "others"), others, strict=True))}
    states = graphs.run(SHORT, read)["states"].numpy()
    rest = np.broadcast_to(silence.states[:, count:], (len(states), *silence.states[0, count:].shape))
    return np.concatenate([states, rest], 1)
