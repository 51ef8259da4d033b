"""What the methods of the model are called with, as the network wants it."""

from typing import Any

from jaxtyping import PRNGKeyArray

from dragoman.errors import ConfigError
from dragoman.jax.layers import Key
from dragoman.jax.speech_encoder import EncoderOutput, SpeechEncoder, earlier_output

__all__ = ["dropout_key", "hear"]


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
