"""The network of a whole model: encoder, bridge and decoder.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dragoman.api.outputs import EncoderOutput, Seq2SeqLMOutput
from dragoman.torch.net.bridge import Bridge, Prefix
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.layers import frame_mask
from dragoman.torch.net.loss import cross_entropy
from dragoman.torch.net.speech_encoder import SpeechEncoderNet
from dragoman.torch.net.text_decoder import TextDecoderNet

torch.export.register_dataclass(Seq2SeqLMOutput)  # so that torch.export and sharding see its tensors


class Joint(nn.Module):
    """A speech encoder, a bridge and a text decoder."""

    encoder: SpeechEncoderNet
    decoder: TextDecoderNet
    bridge: Bridge | Prefix

    def __init__(self, encoder: SpeechEncoderNet, bridge: Bridge | Prefix, decoder: TextDecoderNet) -> None:
        super().__init__()
        self.encoder, self.decoder, self.bridge = encoder, decoder, bridge

    def memory_for(self, encoded: EncoderOutput) -> Memory:
        """Return encoder states as the decoder sees them."""
        states = encoded.last_hidden_state
        mask = None if encoded.lengths is None else frame_mask(encoded.lengths, states.shape[1])
        return self.bridge(states, mask, self.decoder.embed)

    def score(
        self,
        encoded: EncoderOutput,
        tokens: Int[Tensor, "batch tokens"] | None,
        *,
        embeds: Float[Tensor, "batch tokens width"] | None = None,
        token_mask: Bool[Tensor, "batch tokens_so_far"] | None = None,
        labels: Int[Tensor, "batch tokens"] | None = None,
        num_items: Tensor | float | None = None,
        label_smoothing: float = 0.0,
        cache: Cache | None = None,
        all_states: bool = False,
        weights: bool = False,
    ) -> Seq2SeqLMOutput:
        """Score tokens for encoded speech."""
        memory = self.memory_for(encoded)
        starts = isinstance(self.bridge, Prefix) and (cache is None or cache.prefix_mask is None)
        decode = self.decoder.decode_after_prefix if starts else self.decoder.decode
        out, cache = decode(
            tokens, memory, cache, embeds=embeds, token_mask=token_mask, all_states=all_states, weights=weights
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
