"""What joins an encoder to a decoder: a projection where their widths differ, and checks that they can be joined."""

from flax import nnx
from jaxtyping import Array, Float

from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.errors import ConfigError
from dragoman.jax.layers import Linear
from dragoman.jax.speech_encoder import SpeechEncoder
from dragoman.jax.text_decoder import TextDecoder

__all__ = ["BRIDGE_KEYS", "Bridge", "check_joinable"]

BRIDGE_KEYS = KeyMap((Rename("enc_to_dec_proj.*", "proj.*"),))


class Bridge(nnx.Module):
    """A linear layer from the encoder's real output width to the decoder's, or nothing where they are equal."""

    def __init__(self, width_in: int, width_out: int) -> None:
        self.proj = Linear(width_in, width_out) if width_in != width_out else None

    def __call__(self, states: Float[Array, "batch frames width_in"]) -> Float[Array, "batch frames width_out"]:
        """Return the memory."""
        return states if self.proj is None else self.proj(states)


def check_joinable(encoder: object, decoder: object) -> None:
    """Check that two parts make a model.

    Raises:
        ConfigError: If one is not a part, or the decoder is not causal or has no cross-attention.
    """
    if not isinstance(encoder, SpeechEncoder):
        raise ConfigError(f"The encoder must be a JAX speech encoder of dragoman, but is a {type(encoder).__name__}.")
    if not isinstance(decoder, TextDecoder):
        raise ConfigError(f"The decoder must be a JAX text decoder of dragoman, but is a {type(decoder).__name__}.")
    block = decoder.spec.stack.block
    if not block.cross_attention or not block.causal:
        raise ConfigError(
            f"This {decoder.config.model_type} decoder cannot attend to speech: it was built with is_decoder="
            f"{decoder.config.is_decoder} and add_cross_attention={decoder.config.add_cross_attention}, and both must "
            "be true. Build it again with both set in its configuration."
        )
    wanted = decoder.config.cross_attention_hidden_size
    if wanted is not None and wanted not in (encoder.spec.output_width, decoder.spec.width):
        raise ConfigError(
            f"The decoder's `cross_attention_hidden_size` is {wanted}, but the encoder gives states of width "
            f"{encoder.spec.output_width}. Leave it unset: a projection is added where widths differ."
        )
