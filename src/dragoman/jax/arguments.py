"""What the methods of the model are called with, as the network wants it."""

from typing import Any

from jaxtyping import Array, PRNGKeyArray

from dragoman.config import SpeechEncoderDecoderConfig
from dragoman.errors import ConfigError
from dragoman.inputs import check_loss
from dragoman.jax.inputs import checked_texts, checked_tokens
from dragoman.jax.layers import Key
from dragoman.jax.loss import shift_right, without_start
from dragoman.jax.speech_encoder import EncoderOutput, SpeechEncoder, earlier_output
from dragoman.jax.text_decoder import TextDecoder

__all__ = ["dropout_key", "hear", "shifted", "texts_of"]


def hear(
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


def texts_of(
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
