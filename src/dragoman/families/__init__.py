"""All families, one file each, and look-up by the `model_type` of a `config.json`.

The list is closed: no checkpoint can add to it.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any, Literal

from dragoman.errors import ConfigError, did_you_mean
from dragoman.families.base import Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.refusals import WHY

__all__ = [
    "FAMILIES",
    "Family",
    "ModelConfig",
    "Part",
    "config_from_dict",
    "find",
    "register",
    "speech_part",
    "text_part",
]

_FILES = (
    "bart",
    "bert",
    "bert_generation",
    "biogpt",
    "blenderbot",
    "blenderbot_small",
    "camembert",
    "canary",
    "cohere_asr",
    "data2vec_audio",
    "electra",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glmasr",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "granite",
    "hubert",
    "llama",
    "m2m_100",
    "marian",
    "mbart",
    "mistral",
    "moonshine",
    "mt5",
    "olmo2",
    "opt",
    "parakeet_encoder",
    "pegasus",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_audio",
    "qwen3",
    "qwen3_asr",
    "roberta",
    "sew",
    "sew_d",
    "smollm3",
    "speech_to_text",
    "speech_to_text_2",
    "stablelm",
    "t5",
    "trocr",
    "unispeech",
    "unispeech_sat",
    "voxtral",
    "wav2vec2",
    "wav2vec2_bert",
    "wav2vec2_conformer",
    "wavlm",
    "whisper",
    "xglm",
    "xlm_roberta",
)

FAMILIES: tuple[Family, ...] = tuple(import_module(f"{__name__}.{name}").FAMILY for name in _FILES)
"""All families, in the order of their files' names."""

_BY_TYPE = {name: family for family in FAMILIES for name in (family.model_type, *family.also)}


def _types_with(part: Literal["speech", "text"]) -> str:
    return ", ".join(family.model_type for family in FAMILIES if getattr(family, part))


def _type_of(config: object) -> str:
    """Return the `model_type` of a configuration.

    Raises:
        ConfigError: If it is no configuration.
    """
    if not isinstance(config, ModelConfig):
        raise ConfigError(f"A part is built from its configuration, but got a {type(config).__name__}: {config!r:.80}.")
    return config.model_type


def find(model_type: object) -> Family:
    """Return the family of a `model_type`.

    Raises:
        ConfigError: If it is not supported; the message says why, and lists the types that are.
    """
    family = _BY_TYPE.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        reason = WHY.get(str(model_type), "no family describes its network")
        raise ConfigError(
            f"The model type {model_type!r} is not supported: {reason}. Encoders are {_types_with('speech')}; "
            f"decoders are {_types_with('text')}. Use a model of one of these types. If its network is that of one of "
            "them under another name, register the name with dragoman.AutoConfig.register and a subclass of that "
            "family's configuration. docs/new-family.md in the source of dragoman describes how to add another network."
            f"{did_you_mean(str(model_type), _BY_TYPE)}"
        )
    return family


def register(model_type: str, config: type[ModelConfig], exist_ok: bool = False) -> None:
    """Let a `model_type` stand for a subclass of a family's configuration, whose network it has.

    Args:
        model_type: As in `config.json`; the class must have the same.
        config: The class.
        exist_ok: Replace an earlier class of this name.

    Raises:
        ConfigError: If the class extends no family's, or the names differ, or the name is taken.
    """
    family = next((one for one in FAMILIES if isinstance(config, type) and issubclass(config, one.config)), None)
    if family is None:
        raise ConfigError(
            f"{model_type!r} needs a subclass of a configuration of dragoman, such as Wav2Vec2Config, whose network it "
            f"has, but got {config!r}."
        )
    if config.model_type != model_type:
        raise ConfigError(f"`model_type` of {config.__name__} must be {model_type!r}, but is {config.model_type!r}.")
    if model_type in _BY_TYPE and not exist_ok:
        raise ConfigError(f"The model type {model_type!r} is taken. Choose another name, or pass exist_ok=True.")
    _BY_TYPE[model_type] = replace(family, config=config)


def speech_part(config: ModelConfig) -> Part:
    """Return the speech encoder of a configuration's family.

    Raises:
        ConfigError: If the family has no speech encoder; the message lists the families that have.
    """
    part = find(_type_of(config)).speech
    if part is None:
        raise ConfigError(
            f"A {config.model_type!r} model cannot be the encoder: it has no speech encoder. "
            f"Use {_types_with('speech')}."
        )
    return part


def text_part(config: ModelConfig) -> Part:
    """Return the text decoder of a configuration's family.

    Raises:
        ConfigError: If the family cannot be a decoder; the message lists the families that can.
    """
    part = find(_type_of(config)).text
    if part is None:
        raise ConfigError(
            f"A {config.model_type!r} model cannot be the decoder: it has no text decoder. Use {_types_with('text')}."
        )
    return part


def config_from_dict(data: Mapping[str, Any], **overrides: Any) -> ModelConfig:
    """Build the configuration of the family that `data["model_type"]` names; `data` is not changed.

    Raises:
        ConfigError: If `model_type` is missing or unknown, or a value does not fit.
    """
    if "model_type" not in data:
        raise ConfigError(
            "The configuration has no `model_type`, so the kind of model is unknown; add it to config.json."
        )
    return find(data["model_type"]).config.from_dict(data, **overrides)
