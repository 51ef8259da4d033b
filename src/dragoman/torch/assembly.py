"""Whole models from checkpoints: one that was saved whole, or a speech and a text checkpoint joined."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.checkpoint.folder import Checkpoint
from dragoman.checkpoint.report import LoadReport
from dragoman.config import SpeechEncoderDecoderConfig
from dragoman.errors import ConfigError, did_you_mean
from dragoman.families import ModelConfig, find
from dragoman.generation.options import GenerationConfig
from dragoman.spec import SpecialIds
from dragoman.torch.bridge import BRIDGE_KEYS
from dragoman.torch.init import initialise
from dragoman.torch.loading import LoadOptions, fill_part, finish, load_part, log_new
from dragoman.torch.speech_encoder import SpeechEncoder
from dragoman.torch.text_decoder import TextDecoder
from dragoman.torch.weights import PickleFile, fill

if TYPE_CHECKING:
    from dragoman.torch.model import SpeechEncoderDecoderModel

__all__ = ["Parts", "load", "warm_start"]

Model = TypeVar("Model", bound="SpeechEncoderDecoderModel")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The two halves of a warm start, each ready-made or the name of a checkpoint."""

    encoder: SpeechEncoder | str | Path | None
    decoder: TextDecoder | str | Path | None


def load(cls: type[Model], name_or_path: str | Path, keywords: Mapping[str, Any]) -> Model:
    """Load a model that was saved whole; see `SpeechEncoderDecoderModel.from_pretrained`."""
    options, overrides = LoadOptions.split(keywords)
    config = overrides.pop("config", None)
    checkpoint = options.open(name_or_path)
    halves = _is_sequence_to_sequence(checkpoint.config)
    if config is None:
        config = _whole_config(checkpoint, name_or_path, overrides)
    config.name_or_path = str(name_or_path)
    model = cls(config=config, empty=True)
    report = LoadReport(source=str(checkpoint.folder))
    for prefix, part in ("encoder.", model.encoder), ("decoder.", model.decoder):
        found = fill_part(part, checkpoint, options, prefix="" if halves else prefix, warm=False)
        report = report.merged(prefix, found)
    report = report.merged("bridge.", _fill_bridge(model, checkpoint, options))
    report.unexpected += _strangers(checkpoint, halves)
    report.raise_if_unfit()
    for prefix, part in ("encoder.", model.encoder), ("decoder.", model.decoder):
        own = LoadReport(fresh=[n.removeprefix(prefix) for n in report.fresh if n.startswith(prefix)])
        finish(part, own, options)
    _finish(model, report)
    _adopt_generation(model, checkpoint)
    return model


def warm_start(
    cls: type[Model], parts: Parts, tokenizer: Any, feature_extractor: Any, keywords: Mapping[str, Any]
) -> Model:
    """Join a speech and a text checkpoint; see `SpeechEncoderDecoderModel.from_encoder_decoder_pretrained`."""
    routed = _route(keywords)
    encoder, encoder_report = _half(SpeechEncoder, parts.encoder, routed["encoder"])
    decoder, decoder_report = _half(TextDecoder, parts.decoder, routed["decoder"])
    config = SpeechEncoderDecoderConfig(encoder=encoder.config, decoder=decoder.config, **routed["config"])
    model = cls(config=config, encoder=encoder, decoder=decoder)
    report = LoadReport().merged("encoder.", encoder_report).merged("decoder.", decoder_report)
    report.fresh += [f"bridge.{name}" for name in model.bridge.state_dict()]
    _finish(model, report)
    if tokenizer is not None:
        adopt_ids(config.special_ids, tokenizer)
    model.processing = tuple(part for part in (feature_extractor, tokenizer) if part is not None)
    log_new(report)
    return model


def adopt_ids(ids: SpecialIds, tokenizer: Any) -> None:
    """Take from a tokenizer the ids that are not set yet: a text starts with its first special token and ends with its last.

    BERT's kin begins with `cls` and ends with `sep`; others have `bos` and `eos`. Where there is no padding token, the end
    token pads, as is usual for GPT-2.
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


def _whole_config(
    checkpoint: Checkpoint, name_or_path: str | Path, overrides: dict[str, Any]
) -> SpeechEncoderDecoderConfig:
    data = checkpoint.config
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        return SpeechEncoderDecoderConfig.from_dict(data, **overrides)
    if _is_sequence_to_sequence(data):  # Whisper holds both parts under one configuration
        joint = {name: data[name] for name in SpecialIds.names() if name in data}
        parts = {"encoder": dict(data), "decoder": dict(data)}
        return SpeechEncoderDecoderConfig.from_dict({**joint, **parts}, **overrides)
    family = find(data.get("model_type"))
    role = "speech encoder" if family.speech else "text decoder"
    raise ConfigError(
        f"{name_or_path} holds a {family.model_type!r} model, which is a {role} alone. Join it to the other half with "
        "SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder), or train with `dragoman`."
    )


def _is_sequence_to_sequence(data: Mapping[str, Any]) -> bool:
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        return False
    family = find(data.get("model_type"))
    return family.speech is not None and family.text is not None


def _fill_bridge(model: "SpeechEncoderDecoderModel", checkpoint: Checkpoint, options: LoadOptions) -> LoadReport:
    dtype, device = options.target_dtype(model.config.decoder), options.target_device
    may_be_fresh = [t.removeprefix("bridge.") for t in options.allow_new if t == "*" or t.startswith("bridge.")]
    with checkpoint.tensors("pt", PickleFile) as file:
        report = fill(
            model.bridge,
            BRIDGE_KEYS,
            _Only(file, "enc_to_dec_proj."),
            may_be_fresh=may_be_fresh,
            dtype=dtype,
            device=device,
        )
    initialise(model.bridge, report.fresh, model.decoder.spec, dtype or model.dtype, device)
    return report


class _Only:
    """The tensors of a file whose names start with a word."""

    def __init__(self, file: Any, prefix: str) -> None:
        self._file, self._prefix = file, prefix

    def keys(self) -> list[str]:
        return [key for key in self._file.keys() if key.startswith(self._prefix)]  # noqa: SIM118

    def read(self, key: str) -> Any:
        return self._file.read(key)


def _strangers(checkpoint: Checkpoint, halves: bool) -> list[str]:
    if halves:
        return []
    with checkpoint.tensors("pt", PickleFile) as file:
        return [key for key in file.keys() if not key.startswith(("encoder.", "decoder.", "enc_to_dec_proj."))]  # noqa: SIM118


def _finish(model: "SpeechEncoderDecoderModel", report: LoadReport) -> None:
    model.load_report = report
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.eval()


def _adopt_generation(model: "SpeechEncoderDecoderModel", checkpoint: Checkpoint) -> None:
    """Take the generation options of the folder; files from before they had a file of their own keep them in the config."""
    data = checkpoint.generation if checkpoint.generation is not None else dict(model.config.extra)
    options = GenerationConfig.from_dict(data)
    ids = model.config.special_ids
    for name in SpecialIds.names():
        value = getattr(options, name)
        if value is not None:  # generation_config.json is where upstream lets ids be changed, so it wins
            setattr(ids, name, value)
    options.special_ids = ids  # type: ignore[attr-defined]
    model.generation_config = options


def _route(keywords: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Say which keyword concerns which part, and which the joint configuration.

    Raises:
        ConfigError: If a keyword concerns nothing.
    """
    shared = {field.name for field in fields(LoadOptions)}
    joint = {field.name for field in fields(SpeechEncoderDecoderConfig)} - {"encoder", "decoder"}
    routed: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}, "config": {}}
    for name, value in keywords.items():
        part, _, rest = name.partition("_")
        if name in joint and name not in shared:
            routed["config"][name] = value
        elif part in ("encoder", "decoder") and rest:
            routed[part][rest] = value
        elif name in shared:
            for half in ("encoder", "decoder"):
                routed[half].setdefault(name, value)
        else:
            raise ConfigError(
                f"`{name}` is neither an option of loading nor a field of the configuration.{did_you_mean(name, joint | shared)} "
                "Fields of a part take its prefix: encoder_layerdrop=0.0, decoder_dropout=0.1."
            )
    return routed


def _half(cls: Any, given: Any, keywords: dict[str, Any]) -> tuple[Any, LoadReport]:
    role = "encoder" if cls is SpeechEncoder else "decoder"
    if isinstance(given, cls):
        return given, LoadReport()
    if given is None:
        raise ConfigError(
            f"If `{role}_model` is not defined as an argument, a `{role}_pretrained_model_name_or_path` has to be defined."
        )
    if not isinstance(given, str | Path):
        raise ConfigError(f"`{role}_model` must be a {cls.__name__} of dragoman, but is a {type(given).__name__}.")
    options, overrides = LoadOptions.split(keywords)
    flags = {"is_decoder": role == "decoder", "add_cross_attention": role == "decoder"}
    config: ModelConfig | None = overrides.pop("config", None)
    if config is not None:
        config = config.copy(**overrides, **flags)
        overrides = {}
    return load_part(cls, given, options, config, **overrides, **({} if config else flags))
