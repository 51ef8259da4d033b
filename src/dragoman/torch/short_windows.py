"""Whisper's encoder on the speech of a window alone, where all that follows is silence whose states are known.

Axes: batch, mels, inputs (frames of the spectrogram), frames, heads, width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dragoman.api.outputs import EncoderOutput
from dragoman.spec import MelFrontendSpec, SpeechEncoderSpec
from dragoman.torch.net.attention import KeysValues
from dragoman.torch.net.cache import Cache
from dragoman.torch.net.speech_encoder import SpeechEncoderNet
from dragoman.torch.net.step import LayerInputs, Step


@dataclass(frozen=True, kw_only=True)
class GrowingCache(Cache):
    """A cache that grows by concatenation; `present` collects what it then holds, of one layer after the other."""

    keys: tuple[Tensor, ...]  # type: ignore[assignment]
    values: tuple[Tensor, ...]  # type: ignore[assignment]
    present: list[Tensor] = field(default_factory=list)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Return keys and values of all tokens so far."""
        pair = torch.cat([self.keys[layer], keys], 2), torch.cat([self.values[layer], values], 2)
        self.present.extend(pair)
        return pair

    def advanced(self, tokens: int) -> Cache:
        return self

    def grown(self, capacity: int) -> Cache:
        return self


@dataclass(frozen=True)
class Silence:
    """A silent window: its states `[1, frames, width]`, and keys and values of each layer, in turn."""

    states: Tensor
    keys_values: Sequence[Tensor]


def has_short_windows(spec: SpeechEncoderSpec) -> bool:
    """Return whether an encoder is a Whisper's, which always reads a whole window."""
    return isinstance(spec.frontend, MelFrontendSpec) and not spec.frontend.masked


def encode_part(
    encoder: SpeechEncoderNet,
    features: Float[Tensor, "batch mels inputs"],
    others: Sequence[Float[Tensor, "1 heads others head_dim"]],
    *,
    weights: bool = False,
) -> tuple[Float[Tensor, "batch frames width"], list[Tensor]]:
    """Return the states of the first frames of a window, and keys and values of all frames for each layer.

    The last frame is left out, since the convolutions saw the end of the input in it.

    Args:
        encoder: Whisper's.
        features: The spectrogram of the frames.
        others: Keys and values of all frames that follow, of each layer in turn.
        weights: Compute attention by products alone.
    """
    frames, _ = encoder.frontend(features, None)
    states = frames[:, :-1]
    if encoder.positions is not None:
        states = states + encoder.positions(states, None)
    rows = [one.expand(states.shape[0], -1, -1, -1) for one in others]
    cache = GrowingCache(keys=tuple(rows[::2]), values=tuple(rows[1::2]))
    out = encoder.stack(states, Step(), LayerInputs(cache=cache, weights=weights))
    return out.states, cache.present


def encode_silence(encoder: SpeechEncoderNet, features: Float[Tensor, "1 mels inputs"]) -> Silence:
    """Encode a silent window."""
    attn = encoder.spec.stack.block.self_attn
    nothing = features.new_zeros(1, attn.kv_heads, 0, attn.head_dim)
    return Silence(*encode_part(encoder, features, [nothing] * (2 * encoder.spec.stack.num_layers)))


def encode_short(encoder: SpeechEncoderNet, features: Float[Tensor, "batch mels inputs"], silence: Silence) -> Tensor:
    """Return the states `[batch, frames, width]` of whole windows that are silent after `features`."""
    count = encoder.spec.frame_lengths(features.shape[2]) - 1
    states, _ = encode_part(encoder, features, [one[:, :, count:] for one in silence.keys_values])
    return torch.cat([states, silence.states[:, count:].expand(states.shape[0], -1, -1)], 1)


def joined(several: Sequence[EncoderOutput]) -> EncoderOutput:
    """Return the rows of several outputs as one."""
    return EncoderOutput(last_hidden_state=torch.cat([one.last_hidden_state for one in several]))
