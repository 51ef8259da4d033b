"""The network as one module: encoder, bridge and decoder, with nothing around them.

Everything here may be traced; checking and preparing is the model's part (`model.py`).
Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

from dataclasses import replace
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from dragoman.api.outputs import EncoderOutput, Seq2SeqLMOutput
from dragoman.jax.net.bridge import Bridge, Prefix
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.layers import Key, frame_mask, split
from dragoman.jax.net.loss import cross_entropy
from dragoman.jax.net.speech_encoder import SpeechEncoderNet
from dragoman.jax.net.text_decoder import TextDecoderNet
from dragoman.spec.augment import Masks

__all__ = ["Joint"]

jax.tree_util.register_dataclass(Seq2SeqLMOutput)


class Joint(nnx.Module):
    """An encoder, what joins it to a decoder, and a decoder."""

    def __init__(self, encoder: SpeechEncoderNet, bridge: Bridge | Prefix, decoder: TextDecoderNet) -> None:
        self.encoder, self.bridge, self.decoder = encoder, bridge, decoder

    def encode(self, inputs: Array, lengths: Array | None, **asked: Any) -> EncoderOutput:
        """Run the encoder; see `SpeechEncoder.encode`."""
        return self.encoder.encode(inputs, lengths, **asked)

    def memory_for(self, encoded: EncoderOutput) -> Memory:
        """Return encoder states as the decoder sees them."""
        states = encoded.last_hidden_state
        mask = None if encoded.lengths is None else frame_mask(encoded.lengths, states.shape[1])
        if isinstance(self.bridge, Prefix):
            return self.bridge(states, mask, self.decoder.embed)
        return Memory(states=self.bridge(states), mask=mask)

    def begin(self, memory: Memory, capacity: int) -> Cache:
        """Return a cache in which a memory that comes before the text is read; see `TextDecoder.begin`."""
        assert memory.states is not None
        return self.decoder.begin(memory, memory.states.shape[0], capacity)

    def listen(self, inputs: Array, lengths: Array | None) -> Memory:
        """Return the keys and values of audio for all layers of the decoder: what its beams share."""
        return self.project(self.encoder.encode(inputs, lengths))

    def project(self, encoded: EncoderOutput) -> Memory:
        """Return the keys and values of what the encoder gave, for all layers of the decoder."""
        memory = self.memory_for(encoded)
        assert memory.states is not None
        return self.decoder.project_memory(memory.states, memory.mask)

    def __call__(
        self,
        inputs: Array | None,
        lengths: Array | None,
        encoded: EncoderOutput | None,
        tokens: Array | None,
        *,
        token_mask: Array | None = None,
        positions: Array | None = None,
        embeds: Array | None = None,
        labels: Array | None = None,
        num_items: Array | float | None = None,
        cache: Cache | None = None,
        masks: Masks | None = None,
        key: Key = None,
        label_smoothing: float = 0.0,
        frozen: bool = False,
        all_states: bool = False,
        weights: bool = False,
    ) -> Seq2SeqLMOutput:
        """Encode, unless that was done before, and score texts."""
        encoder_key, decoder_key = split(key, 2)
        if encoded is None:
            assert inputs is not None
            encoded = self.encoder.encode(
                inputs, lengths, masks=masks, all_states=all_states, weights=weights, frozen=frozen, key=encoder_key
            )
        memory = self.memory_for(encoded)
        if cache is not None and cache.memory is not None:
            memory = replace(cache.memory, states=memory.states, mask=memory.mask)
        unread = isinstance(self.bridge, Prefix) and (cache is None or cache.prefix_mask is None)
        decode = self.decoder.decode_after_prefix if unread else self.decoder.decode
        out, cache = decode(
            tokens,
            memory,
            cache,
            embeds=embeds,
            token_mask=token_mask,
            positions=positions,
            all_states=all_states,
            weights=weights,
            key=decoder_key,
        )
        logits = self.decoder.logits(out.states)
        return Seq2SeqLMOutput(
            loss=None if labels is None else cross_entropy(logits, labels, num_items, label_smoothing),
            logits=logits,
            past_key_values=cache,
            decoder_hidden_states=out.all_states,
            decoder_attentions=out.self_weights,
            cross_attentions=out.cross_weights,
            encoder_last_hidden_state=memory.states,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )
