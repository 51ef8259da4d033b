"""What the methods of the model are called with, as the network wants it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from dragoman.api.checks import check_encoded, check_encoded_mask, check_loss
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import ModelOutput
from dragoman.errors import ConfigError
from dragoman.torch.net.inputs import checked_mask, checked_tensor, checked_texts, checked_tokens
from dragoman.torch.net.loss import shift_right, without_start
from dragoman.torch.net.speech_encoder import EncoderOutput, SpeechEncoder
from dragoman.torch.net.text_decoder import TextDecoder

__all__ = ["decoder_inputs", "earlier_output", "shifted"]


def earlier_output(encoder: SpeechEncoder, given: Any, attention_mask: Any) -> EncoderOutput:
    """Return what an encoder gave before (object, tuple, list or dictionary), with the lengths that a mask tells.

    Raises:
        ConfigError: If it begins with no states, or with states of another width.
        AudioError: If the mask is neither for samples nor for frames.
    """
    names = ("last_hidden_state", "hidden_states", "attentions")
    if isinstance(given, EncoderOutput):
        found = given
    elif isinstance(given, Sequence) and given:
        found = EncoderOutput(**dict(zip(names, given, strict=False)))
    elif isinstance(given, Mapping | ModelOutput) and "last_hidden_state" in given:
        found = EncoderOutput(**{name: given.get(name) for name in names})  # type: ignore[arg-type]
    else:
        raise ConfigError("`encoder_outputs` must begin with the `last_hidden_state` of the encoder, or name it.")
    attention_mask = checked_mask("attention_mask", attention_mask)
    check_encoded(checked_tensor("encoder_outputs[0]", found.last_hidden_state).shape, encoder.spec.output_width)
    if attention_mask is None or found.lengths is not None or not encoder.spec.frontend.masked:
        return found
    samples, frames = attention_mask.sum(1), found.last_hidden_state.shape[1]
    at_frames = attention_mask.shape[1] == frames
    if not at_frames:
        numbers = attention_mask.shape[1]
        check_encoded_mask(numbers, frames, encoder.spec.frame_lengths(numbers))
    return replace(found, lengths=samples if at_frames else encoder.spec.frame_lengths(samples))


def shifted(config: SpeechEncoderDecoderConfig, decoder: TextDecoder, labels: Any) -> Tensor:
    """Return what the decoder reads to write `labels`: the start id before them, the last of them left out."""
    pad, start = (config.special_id(name) for name in ("pad_token_id", "decoder_start_token_id"))
    return shift_right(labels, pad, start, decoder.spec.vocab_size)


def decoder_inputs(
    config: SpeechEncoderDecoderConfig,
    decoder: TextDecoder,
    tokens: Any,
    embeds: Any,
    cache: Any,
    labels: Any,
    smoothing: float,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return what the decoder reads, tokens or embeddings, and what it should write, all of it checked.

    Before the encoder runs: on an accelerator, looking at a number means waiting for all that was begun.

    Raises:
        ConfigError: If nothing of these is given, or they contradict each other.
    """
    vocab_size = decoder.spec.vocab_size
    if labels is not None:
        labels = checked_tokens("labels", labels, vocab_size, ignored=True)
    if tokens is None and embeds is None:
        if labels is None:
            raise ConfigError(
                "You have to specify either `labels`, `decoder_input_ids` or `decoder_inputs_embeds`. A trainer "
                "that smooths labels itself keeps them from the model: let the collator add "
                "decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels)."
            )
        labels = without_start(labels, config.special_id("decoder_start_token_id"))
        tokens = shifted(config, decoder, labels)
    else:
        tokens, embeds = checked_texts(decoder.spec, tokens, embeds, cache, "decoder_")
    if labels is not None:
        check_loss(labels.shape, (tokens if embeds is None else embeds).shape, smoothing)
    return tokens, embeds, labels
