"""Encoder, decoder and model called as modules, where hooks or a `forward` of a subclass must take effect.

The networks are otherwise called directly, with the memory projected once for all beams. Not here: what is searched.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from dragoman.api.outputs import CausalLMOutput, EncoderOutput, ModelOutput, Seq2SeqLMOutput
from dragoman.errors import ConfigError
from dragoman.model.arguments import encoder_output
from dragoman.torch.arrays import ARRAYS
from dragoman.torch.cached import is_changed, per_row
from dragoman.torch.net.cache import Memory
from dragoman.torch.net.layers import frame_mask
from dragoman.torch.parts import SpeechEncoder, TextDecoder


def run_encoder(
    encoder: SpeechEncoder, inputs: Tensor, lengths: Tensor | None, *, all_states: bool = False, weights: bool = False
) -> EncoderOutput:
    """Encode prepared audio, through a call of the encoder where that is more than the network."""
    if not is_changed(encoder, SpeechEncoder.forward) and encoder._compiled_call_impl is None:
        return encoder.encode(inputs, lengths, all_states=all_states, weights=weights)
    mask = audio_mask(encoder, inputs, lengths)
    given = encoder(
        inputs, attention_mask=mask, output_attentions=weights, output_hidden_states=all_states, return_dict=True
    )
    encoded = encoder_output(ARRAYS, encoder.spec, given, None)
    if encoded.lengths is not None or mask is None or not encoder.spec.frontend.masked:
        return encoded
    frames = encoder._get_feature_vector_attention_mask(encoded.last_hidden_state.shape[1], mask)
    return replace(encoded, lengths=frames.sum(1))


def audio_mask(encoder: SpeechEncoder, inputs: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """Return 1 for each valid sample, `None` if all are."""
    if inputs is None or lengths is None:
        return None
    return frame_mask(lengths, inputs.shape[encoder.spec.frontend.time_axis]).long()


def is_decoder_changed(decoder: TextDecoder) -> bool:
    """Return whether a call of the decoder does more than the network; see `is_changed`."""
    return is_changed(decoder, TextDecoder.forward)


def run_decoder(
    decoder: TextDecoder,
    tokens: Tensor | None,
    memory: Memory,
    cache: Any,
    *,
    embeds: Tensor | None = None,
    token_mask: Tensor | None = None,
    all_states: bool = False,
    weights: bool = False,
) -> CausalLMOutput:
    """Call the decoder with the arguments that `transformers` gives it.

    Raises:
        ConfigError: If it returns no logits, or no cache although one is needed.
    """
    rows = (tokens if embeds is None else embeds).shape[0]  # type: ignore[union-attr]
    assert memory.states is not None
    states, mask = (per_row(x, rows) for x in (memory.states, memory.mask))
    output = decoder(
        input_ids=tokens,
        attention_mask=None if token_mask is None else token_mask.long(),
        encoder_hidden_states=states,
        encoder_attention_mask=None if mask is None else mask.long(),
        inputs_embeds=embeds,
        output_attentions=weights,
        output_hidden_states=all_states,
        use_cache=cache is not None,
        past_key_values=cache,
        return_dict=True,
    )
    found = _lm_output(output)
    if cache is not None and found.past_key_values is None:
        raise ConfigError(
            f"The `forward` of {type(decoder).__name__} must return the cache of the call of its base class, as "
            "`past_key_values` of a CausalLMOutput."
        )
    return found


def _lm_output(output: Any) -> CausalLMOutput:
    """Return what a decoder returned as an output of ours.

    Raises:
        ConfigError: If there are no logits.
    """
    if isinstance(output, CausalLMOutput):
        return output
    names = ("logits", "past_key_values", "hidden_states", "attentions", "cross_attentions")
    if isinstance(output, Tensor):
        return CausalLMOutput(logits=output)
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return CausalLMOutput(**dict(zip(names, output, strict=False)))
    if isinstance(output, dict | ModelOutput) and "logits" in output:
        return CausalLMOutput(**{name: output.get(name) for name in names})
    raise ConfigError(
        f"A `forward` of a decoder, or a hook on it, must return a CausalLMOutput, but returned a "
        f"{type(output).__name__}. Return what the base class returns, with other logits if needed."
    )


def encoded_per_row(encoded: EncoderOutput, rows: int) -> EncoderOutput:
    """Repeat the states of each utterance for each of its beams."""
    states = per_row(encoded.last_hidden_state, rows)
    assert states is not None
    return EncoderOutput(last_hidden_state=states, lengths=per_row(encoded.lengths, rows))


def seq2seq_output(
    output: CausalLMOutput, memory: Memory, encoded: EncoderOutput, loss: Tensor | None
) -> Seq2SeqLMOutput:
    """Return the output of a whole model for that of its decoder."""
    return Seq2SeqLMOutput(
        loss=loss,
        logits=output.logits,
        past_key_values=output.past_key_values,
        decoder_hidden_states=output.hidden_states,
        decoder_attentions=output.attentions,
        cross_attentions=output.cross_attentions,
        encoder_last_hidden_state=memory.states,
        encoder_hidden_states=encoded.hidden_states,
        encoder_attentions=encoded.attentions,
    )


def checked_output(model: nn.Module, output: Any) -> Any:
    """Return the output of a step of a whole model.

    Raises:
        ConfigError: If logits or the cache are missing.
    """
    if not isinstance(output, Seq2SeqLMOutput) or output.logits is None or output.past_key_values is None:
        raise ConfigError(
            f"`generate` calls the `forward` of {type(model).__name__} at each step with `use_cache=True`, and needs a "
            f"Seq2SeqLMOutput with `logits` and `past_key_values`, but got a {type(output).__name__}. Return what the "
            "base class returns, with other values in it."
        )
    return output
