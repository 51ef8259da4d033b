"""Configurations: from the files of a checkpoint, with what the caller overrides."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.options import LoadOptions
from dragoman.errors import ConfigError, did_you_mean
from dragoman.families import ModelConfig, config_from_dict, find
from dragoman.families.composites import joint_data
from dragoman.families.kept import KEPT
from dragoman.generation.inherited import GENERATION_FIELDS
from dragoman.generation.options import GenerationConfig


def whole_config(
    data: Mapping[str, Any], name_or_path: str | Path, overrides: Mapping[str, Any], given: Any = None
) -> SpeechEncoderDecoderConfig:
    """Return the joint configuration of a checkpoint that holds a whole model.

    Args:
        data: The content of its `config.json`.
        name_or_path: The checkpoint, for error messages.
        overrides: Fields that win over the file's.
        given: A configuration of the caller, a copy of which is used instead of the file's.

    Raises:
        ConfigError: If it holds only one of the two parts, or an override is unknown.
    """
    if given is not None:
        return cast(SpeechEncoderDecoderConfig, _replaced(as_joint(given), overrides))
    known, data = joint_names(), joint_data(data)
    for name in overrides:
        if name not in known and name not in data and not name.startswith(("encoder_", "decoder_")):
            raise ConfigError(
                f"`{name}` is neither an option of loading or of `generate` nor a field of the configuration."
                f"{did_you_mean(name, known | {field.name for field in fields(LoadOptions)} | {*GENERATION_FIELDS})}"
            )
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        return SpeechEncoderDecoderConfig.from_dict(data, **overrides)
    if is_sequence_to_sequence(data):
        # checkpoints without a generation_config.json have the options of `generate` here
        joint = {name: data[name] for name in GENERATION_FIELDS if name in data}
        parts = {"encoder": dict(data), "decoder": dict(data)}
        return SpeechEncoderDecoderConfig.from_dict({**joint, **parts}, **overrides)
    family = find(data.get("model_type"))
    role = "speech encoder" if family.speech else "text decoder"
    raise ConfigError(
        f"{name_or_path} holds a {family.model_type!r} model, which is a {role} alone. Join it to the other half with "
        "SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder)."
    )


def joint_names() -> set[str]:
    """Return the names that a joint configuration can be given: its fields, and those that are kept."""
    return {field.name for field in fields(SpeechEncoderDecoderConfig)} | KEPT


def is_sequence_to_sequence(data: Mapping[str, Any]) -> bool:
    """Return whether a `config.json` describes both parts as one family (Whisper)."""
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        return False
    return find(data.get("model_type")).whole is not None


def shared_config(config: SpeechEncoderDecoderConfig) -> ModelConfig | None:
    """Return the one configuration of a model whose parts make a sequence-to-sequence model of one family (Whisper).

    `None` where the parts are of different families, or their specs differ.
    """
    family = find(config.decoder.model_type)
    if family.whole is None or config.encoder.model_type != family.model_type:
        return None
    for one in config.decoder, config.encoder:
        if one.speech_spec() == config.encoder.speech_spec() and one.text_spec() == config.decoder.text_spec():
            return cast(
                ModelConfig, one.copy(is_decoder=False, add_cross_attention=False, architectures=[family.whole])
            )
    return None


def part_config(
    data: Mapping[str, Any], name_or_path: str | Path, overrides: Mapping[str, Any], given: Any = None
) -> ModelConfig:
    """Return the configuration of a checkpoint that holds one part; the arguments are those of `whole_config`.

    Raises:
        ConfigError: If it holds a whole model or one of an unknown type, or an override is a field of neither the
            family nor the file.
    """
    if given is not None:
        return cast(ModelConfig, _replaced(given, overrides))
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        raise ConfigError(
            f"{name_or_path} holds a whole speech encoder-decoder. Load it with "
            "SpeechEncoderDecoderModel.from_pretrained and take its part."
        )
    family = find(data.get("model_type")).config
    for name in overrides:
        if not (name in data or name in KEPT or hasattr(family, name) or name == "extra"):
            known = [field.name for field in fields(family)]
            raise ConfigError(f"A {family.model_type!r} model has no field {name!r}.{did_you_mean(name, known)}")
    return config_from_dict(data, **overrides)


def as_joint(config: Any) -> Any:
    """Return the joint configuration of a sequence-to-sequence model of one family (Whisper); any other as it is."""
    if type(config) is SpeechEncoderDecoderConfig or not isinstance(config, ModelConfig):
        return config
    data = config.to_dict()
    return whole_config(data, "The configuration", {}) if is_sequence_to_sequence(data) else config


def _replaced(config: ModelConfig, overrides: Mapping[str, Any]) -> Any:
    """Return a copy of the caller's configuration with some fields replaced.

    Raises:
        ConfigError: If it is not a configuration of dragoman, or a value does not fit.
    """
    if not isinstance(config, ModelConfig):
        raise ConfigError(f"`config` must be a configuration of dragoman, but is a {type(config).__name__}.")
    copied = config.from_dict(config.to_dict(), **{"attn_implementation": config.attention_choices(), **overrides})
    later = vars(config).keys() - vars(copied).keys() - copied.extra.keys()
    for name in (vars(config).keys() & copied.extra.keys()) | later:  # attributes set by the caller, not keys of a file
        copied.extra.pop(name, None)
        object.__setattr__(copied, name, vars(config)[name])
    return copied


def without_options(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keywords of a loader without options of `generate`, and these options.

    What is also a field of the joint configuration, such as the special ids, stays among the keywords.

    Raises:
        GenerationError: If an option is invalid.
    """
    known = {field.name for field in fields(SpeechEncoderDecoderConfig)}
    options = {name: value for name, value in keywords.items() if name in GENERATION_FIELDS and name not in known}
    GenerationConfig(**options).validate()
    return {name: value for name, value in keywords.items() if name not in options}, options


def set_options(target: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
    """Set options of `generate`, and return the configuration."""
    for name, value in options.items():
        setattr(target, name, value)
    return target
