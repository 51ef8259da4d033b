"""The network of a whole model: encoder, bridge and decoder. All of it may be traced.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

from dataclasses import replace
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.api.outputs import EncoderOutput, Seq2SeqLMOutput
from dragoman.jax.net.bridge import Bridge, Prefix
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.layers import Key, frame_mask, split
from dragoman.jax.net.loss import cross_entropy
from dragoman.jax.net.speech_encoder import SpeechEncoderNet
from dragoman.jax.net.text_decoder import TextDecoderNet
from dragoman.spec.augment import Masks

jax.tree_util.register_dataclass(Seq2SeqLMOutput)


class Joint(nnx.Module):
    """A speech encoder, a bridge and a text decoder."""

    def __init__(self, encoder: SpeechEncoderNet, bridge: Bridge | Prefix, decoder: TextDecoderNet) -> None:
        self.encoder, self.decoder, self.bridge = encoder, decoder, bridge

    def encode(self, inputs: Array, lengths: Array | None, **options: Any) -> EncoderOutput:
        """Run the encoder; see `SpeechEncoderNet.encode`."""
        return self.encoder.encode(inputs, lengths, **options)

    def memory_for(self, encoded: EncoderOutput) -> Memory:
        """Return encoder states as the decoder sees them."""
        states = encoded.last_hidden_state
        mask = None if encoded.lengths is None else frame_mask(encoded.lengths, states.shape[1])
        return self.bridge(states, mask, self.decoder.embed)

    def project(self, encoded: EncoderOutput) -> Memory:
        """Return the keys and values of encoder states for all layers of the decoder, which beams share."""
        memory = self.memory_for(encoded)
        assert memory.states is not None
        return self.decoder.project_memory(memory.states, memory.mask)

    def encode_and_project(self, inputs: Array, lengths: Array | None) -> Memory:
        """Return the keys and values of audio for all layers of the decoder."""
        return self.project(self.encoder.encode(inputs, lengths))

    def begin(self, memory: Memory, capacity: int) -> Cache:
        """Return a cache for `capacity` tokens that holds a prefix; see `TextDecoderNet.begin`."""
        assert memory.states is not None
        return self.decoder.begin(memory, memory.states.shape[0], capacity)

    def __call__(
        self,
        inputs: Array | None,
        lengths: Array | None,
        encoded: EncoderOutput | None,
        tokens: Array | None,
        *,
        masks: Masks | None = None,
        frozen: bool = False,
        key: Key = None,
        all_states: bool = False,
        weights: bool = False,
        **options: Any,
    ) -> Seq2SeqLMOutput:
        """Encode, unless that was done before, and score tokens."""
        encoder_key, decoder_key = split(key, 2)
        if encoded is None:
            assert inputs is not None
            encoded = self.encoder.encode(
                inputs, lengths, masks=masks, all_states=all_states, weights=weights, frozen=frozen, key=encoder_key
            )
        return self.score(encoded, tokens, key=decoder_key, all_states=all_states, weights=weights, **options)

    def score(
        self,
        encoded: EncoderOutput,
        tokens: Int[Array, "batch tokens"] | None,
        *,
        embeds: Float[Array, "batch tokens width"] | None = None,
        token_mask: Bool[Array, "batch tokens_so_far"] | None = None,
        positions: Int[Array, "batch tokens"] | None = None,
        labels: Int[Array, "batch tokens"] | None = None,
        num_items: Array | float | None = None,
        label_smoothing: float = 0.0,
        cache: Cache | None = None,
        all_states: bool = False,
        weights: bool = False,
        key: Key = None,
    ) -> Seq2SeqLMOutput:
        """Score tokens for encoded speech."""
        memory = self.memory_for(encoded)
        if cache is not None and cache.memory is not None:
            memory = replace(cache.memory, states=memory.states, mask=memory.mask)
        starts = isinstance(self.bridge, Prefix) and (cache is None or cache.prefix_mask is None)
        decode = self.decoder.decode_after_prefix if starts else self.decoder.decode
        out, cache = decode(
            tokens,
            memory,
            cache,
            embeds=embeds,
            token_mask=token_mask,
            positions=positions,
            all_states=all_states,
            weights=weights,
            key=key,
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
