"""What the methods of the model are called with, as the network wants it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dragoman.api.checks import check_encoded, check_encoded_mask, check_loss
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import ModelOutput
from dragoman.errors import ConfigError
from dragoman.jax.net.inputs import checked_mask, checked_tensor, checked_texts, checked_tokens
from dragoman.jax.net.layers import Key
from dragoman.jax.net.loss import shift_right, without_start
from dragoman.jax.net.speech_encoder import EncoderOutput, SpeechEncoder
from dragoman.jax.net.text_decoder import TextDecoder

__all__ = ["decoder_inputs", "dropout_key", "earlier_output", "prepare_encoder_inputs", "shifted"]


def prepare_encoder_inputs(
    encoder: SpeechEncoder, inputs: Any, attention_mask: Any, encoder_outputs: Any
) -> tuple[Any, Any, EncoderOutput | None]:
    """Return the audio and its lengths ready for the encoder, or what the encoder gave before.

    Raises:
        ConfigError: If there is neither audio nor an earlier output.
    """
    if encoder_outputs is not None:
        return None, None, earlier_output(encoder, encoder_outputs, attention_mask)
    if inputs is None:
        raise ConfigError("You have to specify either input_values or input_features, or `encoder_outputs`.")
    return (*encoder.prepare(inputs, attention_mask), None)


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
    samples, frames = attention_mask.astype(np.int32).sum(1), found.last_hidden_state.shape[1]
    at_frames = attention_mask.shape[1] == frames
    if not at_frames:
        numbers = attention_mask.shape[1]
        check_encoded_mask(numbers, frames, encoder.spec.frame_lengths(numbers))
    return replace(found, lengths=samples if at_frames else encoder.spec.frame_lengths(samples))


def dropout_key(train: bool, dropout_rng: PRNGKeyArray | None) -> Key:
    """Return the random key of a call, `None` where nothing is drawn.

    Raises:
        ConfigError: If the call trains and has none.
    """
    if train and dropout_rng is None:
        raise ConfigError(
            "`train=True` needs `dropout_rng`, a new random key for each step: jax.random.fold_in(key, step)."
        )
    return dropout_rng if train else None


def shifted(config: SpeechEncoderDecoderConfig, decoder: TextDecoder, labels: Any) -> Array:
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
) -> tuple[Any, Any, Any]:
    """Return what the decoder reads, tokens or embeddings, and what it should write, all of it checked.

    Raises:
        ConfigError: If nothing of these is given, or they contradict each other.
    """
    if labels is not None:
        labels = checked_tokens("labels", labels, decoder.spec.vocab_size, ignored=True)
    if tokens is None and embeds is None:
        if labels is None:
            raise ConfigError("You have to specify either `labels`, `decoder_input_ids` or `decoder_inputs_embeds`.")
        labels = without_start(labels, config.special_id("decoder_start_token_id"))
        tokens = shifted(config, decoder, labels)
    else:
        tokens, embeds = checked_texts(decoder.spec, tokens, embeds, cache, "decoder_")
    if labels is not None:
        check_loss(labels.shape, (tokens if embeds is None else embeds).shape, smoothing)
    return tokens, embeds, labels
