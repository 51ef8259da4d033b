"""Models from two checkpoints, one of speech and one of text: which keyword goes where, which ids the model takes."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dragoman.api.config import SpeechEncoderDecoderConfig, settled_fusion
from dragoman.checkpoint.idle import IDLE_OPTIONS
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import ConfigError, did_you_mean
from dragoman.families import speech_part
from dragoman.families.composites import joint_data
from dragoman.generation.inherited import GENERATION_FIELDS
from dragoman.model.backend import Backend
from dragoman.model.configs import joint_names, part_config, set_options, without_options
from dragoman.model.load import AnyModel, dtype_name, load_part, log_new, open_checkpoint
from dragoman.spec import SpecialIds
from dragoman.text.chat import speech_prompt


def warm_start(
    backend: Backend,
    cls: type[AnyModel],
    encoder: Any,
    decoder: Any,
    keywords: Mapping[str, Any],
    *,
    tokenizer: Any,
    feature_extractor: Any,
) -> AnyModel:
    """Join a speech encoder and a text decoder.

    Args:
        backend: The framework.
        cls: Class of the model.
        encoder: The encoder or the name of its checkpoint.
        decoder: The decoder or the name of its checkpoint.
        keywords: Those of `SpeechEncoderDecoderModel.from_encoder_decoder_pretrained`.
        tokenizer: The decoder's tokenizer, or `None`.
        feature_extractor: The encoder's feature extractor, or `None`.
    """
    keywords, generation = without_options(keywords)
    routed = _route(keywords)
    processing = _processing(feature_extractor, tokenizer)
    _add_prompt(routed["config"], tokenizer)
    _check_roles(encoder, decoder, routed)
    encoder, encoder_report = _part(backend, "encoder", cls.encoder_class, encoder, routed)
    decoder, decoder_report = _part(backend, "decoder", cls.decoder_class, decoder, routed)
    config = SpeechEncoderDecoderConfig(encoder=encoder.config, decoder=decoder.config, **routed["config"])
    model = cls(config=config, encoder=encoder, decoder=decoder)
    report = LoadReport().merged("encoder.", encoder_report).merged("decoder.", decoder_report)
    report.fresh += [f"bridge.{name}" for name in backend.tensors(model.bridge)]
    model.load_report = report
    model.config.dtype = dtype_name(model.dtype)
    if tokenizer is not None:
        _adopt_ids(config.special_ids, tokenizer)
    set_options(model.generation_config, generation)
    model.processing = processing
    backend.set_to_evaluation(model)
    log_new(report)
    return model


def _route(keywords: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort the keywords of a warm start by what they are for: "encoder", "decoder" or the joint "config".

    Raises:
        ConfigError: If a keyword is for none of them.
    """
    shared = {field.name for field in fields(LoadOptions)} | IDLE_OPTIONS | {"use_auth_token"}
    own = set(SpecialIds.names())
    joint = {name for name in joint_names() if name in own or not name.startswith(("encoder", "decoder"))}
    routed: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}, "config": {}}
    for name, value in keywords.items():
        part, _, rest = name.partition("_")
        if name in joint and name not in shared:
            routed["config"][name] = value
        elif part in ("encoder", "decoder") and rest:
            routed[part][rest] = value
        elif name in shared:
            for role in ("encoder", "decoder"):
                routed[role].setdefault(name, value)
        else:
            hint = did_you_mean(name, joint | shared | {*GENERATION_FIELDS})
            raise ConfigError(
                f"`{name}` is neither an option of loading or of `generate` nor a field of the configuration.{hint} "
                "Fields of a part take its prefix: encoder_layerdrop=0.0, decoder_dropout=0.1."
            )
    return routed


def _processing(feature_extractor: Any, tokenizer: Any) -> tuple[Any, ...]:
    """Return what is saved with a warm-started model.

    Raises:
        ConfigError: If one of the two is something else.
    """
    for role, part, name in (
        ("feature_extractor", feature_extractor, "AutoFeatureExtractor"),
        ("tokenizer", tokenizer, "AutoTokenizer"),
    ):
        if part is not None and not callable(getattr(part, "save_pretrained", None)):
            raise ConfigError(
                f"`{role}` must be what {name}.from_pretrained returns, but is a {type(part).__name__}: {part!r:.80}."
            )
    return tuple(part for part in (feature_extractor, tokenizer) if part is not None)


def _add_prompt(config: dict[str, Any], tokenizer: Any) -> None:
    """Take the prompt of a speech prefix from the tokenizer's chat template, unless the caller chose one.

    The last token of the prompt becomes the start token of every transcript.
    """
    if config.get("fusion") != "prefix" or tokenizer is None or "fusion_prompt" in config:
        return
    before, after = speech_prompt(tokenizer)
    if after:
        config.setdefault("decoder_start_token_id", after[-1])
    config["fusion_prompt"] = [before, after[:-1]]


def _check_roles(encoder: Any, decoder: Any, routed: Mapping[str, dict[str, Any]]) -> None:
    """Refuse checkpoints that cannot be joined, before gigabytes of either are fetched and read.

    Raises:
        ConfigError: If one is of an unknown family, or of one that cannot play its role.
    """
    for role, given in ("encoder", encoder), ("decoder", decoder):
        if not isinstance(given, str | Path):
            continue
        options, overrides = LoadOptions.split(routed[role])
        config, data = overrides.get("config"), options.announced(given)
        if config is None and data:
            config = part_config(joint_data(data, role), given, {})
        if config is not None and role == "encoder":
            speech_part(config)
        elif config is not None:
            settled_fusion(config, routed["config"].get("fusion"))


def _part(
    backend: Backend, role: str, cls: type[Any], given: Any, routed: Mapping[str, dict[str, Any]]
) -> tuple[Any, LoadReport]:
    """Return one part of a warm start, ready-made or loaded, and its load report.

    Raises:
        ConfigError: If nothing, or something else, is given.
    """
    options, overrides = LoadOptions.split(routed[role])
    if isinstance(given, cls):
        if overrides:
            raise ConfigError(
                f"{', '.join(f'`{role}_{name}`' for name in overrides)} cannot change a ready-made {role}; "
                "set fields in its configuration before it is built."
            )
        return given, LoadReport()
    if given is None:
        raise ConfigError(
            f"If `{role}_model` is not defined as an argument, a `{role}_pretrained_model_name_or_path` has to be "
            "defined."
        )
    if not isinstance(given, str | Path):
        raise ConfigError(f"`{role}_model` must be a {cls.__name__} of dragoman, but is a {type(given).__name__}.")
    checkpoint = open_checkpoint(backend, given, options)
    crosses = role == "decoder" and routed["config"].get("fusion") != "prefix"
    flags = {"is_decoder": role == "decoder", "add_cross_attention": crosses}
    config = overrides.pop("config", None)
    return load_part(backend, cls, given, options, config, checkpoint=checkpoint, **{**overrides, **flags})


def _adopt_ids(ids: SpecialIds, tokenizer: Any) -> None:
    """Take the special ids that are not set yet from a tokenizer.

    BERT-like models start with `cls` and end with `sep`, others with `bos` and `eos`. Where there is no padding token,
    `eos` pads, as is usual for GPT-2.
    """
    start = _first(tokenizer, "cls_token_id", "bos_token_id", "eos_token_id")
    end = _first(tokenizer, "sep_token_id", "eos_token_id")
    found = {
        "decoder_start_token_id": start,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": _first(tokenizer, "pad_token_id", "eos_token_id"),
    }
    for name, value in found.items():
        if getattr(ids, name) is None:
            setattr(ids, name, value)


def _first(tokenizer: Any, *names: str) -> int | None:
    values = (getattr(tokenizer, name, None) for name in names)
    return next((value for value in values if value is not None), None)
