"""What loading, joining and saving a whole model mean, whatever the backend: configurations, ids, options and reports.

The backends' own `assembly` modules move the tensors.
"""

import copy
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from dragoman.api.config import SpeechEncoderDecoderConfig, settled_fusion
from dragoman.checkpoint.folder import Checkpoint
from dragoman.checkpoint.options import IDLE_OPTIONS, LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import ConfigError, did_you_mean
from dragoman.families import ModelConfig, config_from_dict, find, speech_part
from dragoman.generation.options import GenerationConfig
from dragoman.generation.settings import set_on
from dragoman.spec import SpecialIds
from dragoman.text.chat import speech_prompt

__all__ = [
    "BRIDGE_NAMES",
    "Files",
    "PrefixView",
    "add_prompt",
    "adopt_ids",
    "changed",
    "check_roles",
    "generation_of",
    "is_sequence_to_sequence",
    "joint_report",
    "load_encoder_or_decoder",
    "model_files",
    "part_config",
    "processing_of",
    "route",
    "saved_prefixes",
    "shared_config",
    "shared_options",
    "whole_config",
]

BRIDGE_NAMES = ("enc_to_dec_proj.", "speech_proj.")
"""How the names begin that what joins the parts has in checkpoints."""

_GENERATION_FIELDS = tuple(field.name for field in fields(GenerationConfig) if field.name != "extra")
_OLD_MAX_LENGTH = 20  # what releases before 4.4x wrote into every config.json, whether it was meant or not

Files = dict[str, bytes | Callable[[Path], None]]
"""By file name, the content or a function that writes it."""


def processing_of(feature_extractor: Any, tokenizer: Any) -> tuple[Any, ...]:
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


def adopt_ids(ids: SpecialIds, tokenizer: Any) -> None:
    """Take from a tokenizer the ids that are not set yet: a text starts with the first special one, ends with the last.

    BERT's kin begins with `cls` and ends with `sep`; others have `bos` and `eos`. Where there is no padding token, the
    end token pads, as is usual for GPT-2.
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


def whole_config(
    data: Mapping[str, Any], name_or_path: str | Path, overrides: Mapping[str, Any]
) -> SpeechEncoderDecoderConfig:
    """Return the joint configuration of a checkpoint that holds a whole model; `data` is what its `config.json` says.

    Raises:
        ConfigError: If it holds only one of the two parts.
    """
    known = {field.name for field in fields(SpeechEncoderDecoderConfig)}
    for name in overrides:
        if name not in known and not name.startswith(("encoder_", "decoder_")):
            raise ConfigError(
                f"`{name}` is neither an option of loading nor a field of the configuration."
                f"{did_you_mean(name, known | {field.name for field in fields(LoadOptions)})}"
            )
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        return SpeechEncoderDecoderConfig.from_dict(data, **overrides)
    if is_sequence_to_sequence(data):  # Whisper holds both parts under one configuration
        # files from before generation_config.json keep the options of `generate` here
        joint = {name: data[name] for name in _GENERATION_FIELDS if name in data}
        parts = {"encoder": dict(data), "decoder": dict(data)}
        return SpeechEncoderDecoderConfig.from_dict({**joint, **parts}, **overrides)
    family = find(data.get("model_type"))
    role = "speech encoder" if family.speech else "text decoder"
    raise ConfigError(
        f"{name_or_path} holds a {family.model_type!r} model, which is a {role} alone. Join it to the other half with "
        "SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder)."
    )


def is_sequence_to_sequence(data: Mapping[str, Any]) -> bool:
    """Return whether a `config.json` is that of one family that is both parts (Whisper)."""
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        return False
    return find(data.get("model_type")).whole is not None


def shared_config(config: SpeechEncoderDecoderConfig) -> ModelConfig | None:
    """Return the one configuration of a model whose halves make one model of a sequence-to-sequence family (Whisper).

    `None` where the halves are of different families, or of different sizes or habits.
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


def saved_prefixes(config: SpeechEncoderDecoderConfig) -> tuple[str, str]:
    """Return what the names of the encoder's and of the decoder's tensors begin with in the model's checkpoint."""
    return ("encoder.", "decoder.") if shared_config(config) is None else ("model.encoder.", "")


def part_config(data: Mapping[str, Any], name_or_path: str | Path, overrides: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration of a checkpoint that holds one part; `data` is what its `config.json` says.

    Raises:
        ConfigError: If it holds a whole model or one of an unknown type, or an override is a field of neither the
            family nor the file.
    """
    if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
        raise ConfigError(
            f"{name_or_path} holds a whole speech encoder-decoder. Load it with "
            "SpeechEncoderDecoderModel.from_pretrained and take its part."
        )
    config = config_from_dict(data, **overrides)
    for name in overrides:
        if name in config.extra and name not in data:
            known = [field.name for field in fields(config)]
            raise ConfigError(f"A {config.model_type!r} model has no field {name!r}.{did_you_mean(name, known)}")
    return config


def changed(config: ModelConfig, overrides: Mapping[str, Any]) -> Any:
    """Return a copy of a configuration that the caller passed in, with some fields changed.

    Raises:
        ConfigError: If it is no configuration of dragoman, or a value does not fit.
    """
    if not isinstance(config, ModelConfig):
        raise ConfigError(f"`config` must be a configuration of dragoman, but is a {type(config).__name__}.")
    made = config.from_dict(config.to_dict(), **overrides)
    for name in vars(config).keys() & made.extra.keys():  # set on it later, which is more than a key of a file
        setattr(made, name, made.extra.pop(name))
    return made


class PrefixView:
    """The tensors of a file whose names start with one of some words."""

    def __init__(self, file: TensorFile, prefixes: tuple[str, ...]) -> None:
        self._file, self._prefixes = file, prefixes

    def keys(self) -> list[str]:
        """Return their names."""
        return [key for key in self._file.keys() if key.startswith(self._prefixes)]  # noqa: SIM118

    def read(self, key: str) -> Any:
        """Return a tensor."""
        return self._file.read(key)


def joint_report(checkpoint: Checkpoint, parts: Mapping[str, LoadReport], names: Iterable[str]) -> LoadReport:
    """Join what became of the tensors of each part of a whole model, and name those that belong to no part.

    Args:
        checkpoint: Where they are from.
        parts: The report of each part, by its word in our names: `"encoder."`, `"decoder."` and `"bridge."`.
        names: All tensors of the checkpoint.
    """
    report = LoadReport(source=str(checkpoint.folder))
    for prefix, own in parts.items():
        report = report.merged(prefix, own)
    if is_sequence_to_sequence(checkpoint.config):  # what one half leaves out the other one uses
        halves = parts["encoder."].dropped, parts["decoder."].dropped
        report.dropped = {n: why for n, why in report.dropped.items() if all(n in dropped for dropped in halves)}
    else:
        report.unexpected += [n for n in names if not n.startswith(("encoder.", "decoder.", *BRIDGE_NAMES))]
    return report


def generation_of(config: SpeechEncoderDecoderConfig, checkpoint: Checkpoint) -> GenerationConfig:
    """Return the generation options of a folder, sharing their special ids with `config`.

    Files from before they had a file of their own keep them in the configuration; there, the old default of 20 tokens
    is not taken for a wish.
    """
    data = checkpoint.generation
    if data is None:
        data = {n: v for n, v in config.extra.items() if (n, v) != ("max_length", _OLD_MAX_LENGTH)}
    options = GenerationConfig.from_dict(data)
    options.encoder_no_repeat_ngram_size = 0  # Blenderbot's wish, about the tokens of a text encoder
    return shared_options(options, config)


def shared_options(options: Any, config: SpeechEncoderDecoderConfig) -> GenerationConfig:
    """Return a copy of options of `generate`, ours or upstream's, that shares its special ids with `config`.

    Raises:
        GenerationError: If they are no such options.
    """
    shared = copy.deepcopy(GenerationConfig.of(options))
    ids = config.special_ids
    for name in SpecialIds.names():
        value = getattr(shared, name)
        if value is not None:  # generation_config.json is where upstream lets ids be changed, so it wins
            setattr(ids, name, value)
    shared.special_ids = ids  # type: ignore[attr-defined]
    return shared


def route(keywords: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Say which keyword of a warm start concerns which part ("encoder", "decoder"), and which the joint "config".

    Raises:
        ConfigError: If a keyword concerns nothing.
    """
    shared = {field.name for field in fields(LoadOptions)} | IDLE_OPTIONS
    joint = {field.name for field in fields(SpeechEncoderDecoderConfig)} - {"encoder", "decoder"}
    routed: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}, "config": {}}
    for name, value in keywords.items():
        part, _, rest = name.partition("_")
        if name in joint and name not in shared:
            routed["config"][name] = value
        elif part in ("encoder", "decoder") and rest:
            routed[part][rest] = value
        elif name in shared:
            for half_name in ("encoder", "decoder"):
                routed[half_name].setdefault(name, value)
        else:
            hint = did_you_mean(name, joint | shared)
            raise ConfigError(
                f"`{name}` is neither an option of loading nor a field of the configuration.{hint} "
                "Fields of a part take its prefix: encoder_layerdrop=0.0, decoder_dropout=0.1."
            )
    return routed


def add_prompt(config: dict[str, Any], tokenizer: Any) -> None:
    """Put the prompt of the tokenizer's chat template around speech that comes before the text, if nobody chose one.

    The last token of the prompt is the one that every text starts with.
    """
    if config.get("fusion") != "prefix" or tokenizer is None or "fusion_prompt" in config:
        return
    before, after = speech_prompt(tokenizer)
    if after:
        config.setdefault("decoder_start_token_id", after[-1])
    config["fusion_prompt"] = [before, after[:-1]]


def check_roles(encoder: Any, decoder: Any, routed: Mapping[str, dict[str, Any]]) -> None:
    """Refuse checkpoints that cannot be joined, before gigabytes of either are fetched and read.

    Args:
        encoder: The part or the name of its checkpoint.
        decoder: The same.
        routed: What `route` found for each part.

    Raises:
        ConfigError: If one is of an unknown family, or of one that cannot play its role.
    """
    for role, given in ("encoder", encoder), ("decoder", decoder):
        if not isinstance(given, str | Path):
            continue
        options, overrides = LoadOptions.split(routed[role])
        config, data = overrides.get("config"), options.announced(given)
        if config is None and data:
            config = part_config(data, given, {})
        if config is not None and role == "encoder":
            speech_part(config)
        elif config is not None:
            settled_fusion(config, routed["config"].get("fusion"))


def load_encoder_or_decoder(
    role: str,
    cls: type[Any],
    load: Callable[..., tuple[Any, LoadReport]],
    given: Any,
    routed: Mapping[str, dict[str, Any]],
    *,
    pickles: bool = True,
) -> tuple[Any, LoadReport]:
    """Return one part of a warm start, ready-made or loaded, and what became of its tensors.

    Args:
        role: `"encoder"` or `"decoder"`.
        cls: Class of the part.
        load: `(cls, name, options, config, checkpoint=, **overrides)` loads it.
        given: The part or the name of its checkpoint.
        routed: What `route` found for each part.
        pickles: Whether the backend reads `.bin` files.

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
    checkpoint = options.open(given, pickles=pickles)
    crosses = role == "decoder" and routed["config"].get("fusion") != "prefix"
    flags = {"is_decoder": role == "decoder", "add_cross_attention": crosses}
    config = overrides.pop("config", None)
    return load(cls, given, options, config, checkpoint=checkpoint, **{**overrides, **flags})


def model_files(config: SpeechEncoderDecoderConfig, generation: GenerationConfig, processing: Sequence[Any]) -> Files:
    """Return all files of a model's folder but its weights: configuration, generation options, processing."""
    chosen = generation.replace(**set_on(config)).to_dict()
    saved = shared_config(config) or config.copy(architectures=["SpeechEncoderDecoderModel"])
    known = {field.name for field in fields(saved)}
    # options of `generate` belong into their own file: release 5 refuses to use a model that has them here
    about = {name: value for name, value in saved.to_dict().items() if name in known or name not in _GENERATION_FIELDS}
    ids = {name: value for name, value in vars(config.special_ids).items() if value is not None}
    about |= {name: value for name, value in ids.items() if not name.startswith("forced_")}
    files: Files = {
        "config.json": (json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        "generation_config.json": (json.dumps({**chosen, **ids}, indent=2, sort_keys=True) + "\n").encode(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for part in processing:
            part.save_pretrained(scratch)
        files |= {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    return files
