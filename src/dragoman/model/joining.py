"""Which encoder and decoder make a model."""

from typing import Any

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.errors import ConfigError
from dragoman.model.backend import ModelPart
from dragoman.spec import SpeechEncoderSpec, TextDecoderSpec


def check_part(role: str, part: object, kind: type[Any]) -> None:
    """Check a ready-made `role`, "speech encoder" or "text decoder", of this backend; `None` stands for none.

    Raises:
        ConfigError: If it is something else.
    """
    if part is not None and not isinstance(part, kind):
        raise ConfigError(f"The {role.split()[1]} must be a {role} of dragoman, but is a {type(part).__name__}.")


def joint_config(config: Any, encoder: ModelPart | None, decoder: ModelPart | None) -> SpeechEncoderDecoderConfig:
    """Return the configuration of a new model: the one given, or that of two ready-made parts.

    Raises:
        ConfigError: If there is neither, or it is of another kind.
    """
    if config is None:
        if encoder is None or decoder is None:
            raise ConfigError("Either a configuration or an encoder and a decoder has to be provided.")
        return SpeechEncoderDecoderConfig(encoder=encoder.config, decoder=decoder.config)
    if not isinstance(config, SpeechEncoderDecoderConfig):
        raise ConfigError(f"Config {config!r} has to be of type SpeechEncoderDecoderConfig.")
    return config


def check_joinable(encoder: ModelPart, decoder: ModelPart, config: SpeechEncoderDecoderConfig) -> None:
    """Check that two parts make a model.

    Raises:
        ConfigError: If the decoder is not causal, lacks cross-attention where it needs it, or has it although the
            speech is to come before the tokens; or if widths or the tokens of the prompt do not fit the decoder.
    """
    speech, text, own = encoder.spec, decoder.spec, decoder.config
    assert isinstance(speech, SpeechEncoderSpec)
    assert isinstance(text, TextDecoderSpec)
    prefix, crosses = config.fusion == "prefix", text.stack.block.cross_attn is not None
    if prefix and text.causal and crosses:
        raise ConfigError(
            f"This {own.model_type} decoder has cross-attention, so speech cannot be its prefix. "
            "Leave `fusion` out, or, where the family allows it, build the decoder with add_cross_attention=False."
        )
    if not text.causal or not (prefix or crosses):
        raise ConfigError(
            f"This {own.model_type} decoder cannot attend to speech: it was built with is_decoder={own.is_decoder} and "
            f'add_cross_attention={own.add_cross_attention}, and both must be true (with fusion="prefix" the first '
            "alone). Build it again with them set in its configuration."
        )
    wanted = own.cross_attention_hidden_size
    if wanted is not None and wanted not in (speech.output_width, text.width):
        raise ConfigError(
            f"The decoder's `cross_attention_hidden_size` is {wanted}, but the encoder gives states of width "
            f"{speech.output_width}. Leave it unset: a projection is added where widths differ."
        )
    wrong = [token for ids in config.fusion_prompt or () for token in ids if not 0 <= token < text.vocab_size]
    if wrong:
        raise ConfigError(
            f"`fusion_prompt` must hold tokens of the decoder, ids below {text.vocab_size}, but has {wrong}."
        )
