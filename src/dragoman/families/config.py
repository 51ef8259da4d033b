"""`ModelConfig`: the fields of a `config.json` that every family has, and how the file is read and written."""

import json
import types
import typing
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from dragoman.checkpoint.idle import IDLE_OPTIONS
from dragoman.errors import ConfigError, ModelNotFoundError
from dragoman.families.free_fields import FieldAlias, FreeFields, field_name
from dragoman.files import as_path, read_json, write_bytes
from dragoman.hub import HUB_OPTIONS, local_folder
from dragoman.publishing import PushMethods
from dragoman.spec import SpecAugmentSpec, SpeechEncoderSpec, TextDecoderSpec

_JSON = (str, int, float, list, tuple, dict)


@dataclass(kw_only=True, init=False, eq=False)
class ModelConfig(FreeFields, PushMethods):
    """The fields that any `config.json` may have; each family adds its own.

    Any other name is kept as an attribute and saved, if JSON can hold its value; one that looks like a misspelt field
    is warned about. Unknown keys of a file are in `extra`. Names with an underscore first are not saved. No key runs
    code.
    """

    model_type: ClassVar[str] = ""

    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    is_encoder_decoder: bool = False
    is_decoder: bool = False
    add_cross_attention: bool = False
    cross_attention_hidden_size: int | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True
    return_dict: bool = True
    output_attentions: bool = False
    output_hidden_states: bool = False
    architectures: list[str] | None = None
    dtype: str | None = None
    name_or_path: str = field(default="", repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    torch_dtype = FieldAlias("dtype")  # the name before 4.56
    attn_implementation = FieldAlias("_attn_implementation")

    def __post_init__(self) -> None:
        """Check the type of every value."""
        wrong = [
            f"`{name}` must be {_in_words(hint)}, but is {getattr(self, name)!r}"
            for name, hint in _types_of(type(self)).items()
            if not _fits(getattr(self, name), hint)
        ]
        if wrong:
            raise ConfigError(f"The {self.model_type or 'model'} configuration is not valid: {'; '.join(wrong)}.")

    @property
    def use_return_dict(self) -> bool:
        """The same as `return_dict`, unless `torchscript` is set: `torch.jit.trace` takes tuples only."""
        return self.return_dict and not self.torchscript

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "ModelConfig":
        """Return the configuration of the text model, which is this one."""
        return self

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the speech encoder.

        Raises:
            ConfigError: If the family has no speech encoder.
        """
        raise ConfigError(f"A {self.model_type!r} model has no speech encoder.")

    def text_spec(self) -> TextDecoderSpec:
        """Describe the text decoder.

        Raises:
            ConfigError: If the family has no text decoder.
        """
        raise ConfigError(f"A {self.model_type!r} model has no text decoder.")

    @staticmethod
    def get_config_dict(name_or_path: str | Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the content of a `config.json`, and the options that are not about finding it.

        Args:
            name_or_path: A local folder, a `config.json`, or a hub id.
            **options: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`, `subfolder`.

        Raises:
            ModelNotFoundError: If there is no such folder, id or file.
        """
        path = as_path(name_or_path, "The name of a model (a folder or a hub id)", ModelNotFoundError)
        if path.suffix == ".json" and path.is_file():
            rest = {name: value for name, value in options.items() if name not in HUB_OPTIONS | IDLE_OPTIONS}
            return read_json(path), rest
        folder, rest = local_folder(name_or_path, options, patterns=["config.json"], idle=IDLE_OPTIONS)
        return read_json(folder / "config.json"), rest

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> Any:
        """Read the `config.json` of a model of this family.

        Args:
            name_or_path: A local folder, a `config.json`, or a hub id.
            **options: Those of `get_config_dict`; fields that override those of the file.

        Raises:
            ModelNotFoundError: If there is no such folder, id or file.
            ConfigError: If it is of another family.
        """
        data, overrides = cls.get_config_dict(name_or_path, **options)
        if data.get("model_type") != cls.model_type:
            raise ConfigError(
                f"{name_or_path} holds a {data.get('model_type')!r} model, not a {cls.model_type!r} one, which "
                f"{cls.__name__} is for. Use AutoConfig.from_pretrained."
            )
        return cls.from_dict(data, **overrides)

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> Self:
        """Build from a `config.json`, whatever its `model_type`."""
        return cls.from_dict(read_json(json_file))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from the keys of a `config.json` and `overrides`, which take precedence.

        Raises:
            ConfigError: If a value is of the wrong type, or an override is no field of the family.
        """
        names = {f.name for f in fields(cls)} - {"extra"}
        taken = {k: v for k, v in data.items() if k != "model_type" and (k in names or not k.startswith("_"))}
        given = {field_name(cls, k): v for k, v in taken.items()}
        given["name_or_path"] = data.get("_name_or_path") or data.get("name_or_path") or ""
        if "_attn_implementation" in given:  # not saved again
            overrides = {"attn_implementation": given.pop("_attn_implementation"), **overrides}
        overrides = {field_name(cls, key): value for key, value in overrides.items()}
        known = {key: value for key, value in {**given, **overrides}.items() if key in names}
        extra = {key: deepcopy(value) for key, value in given.items() if key not in names}
        config = cls(**known, extra=extra)
        # what a subclass sets in its `__init__` is a default, over which the file wins
        for name in (vars(config).keys() & extra.keys()) - names - {"extra"}:
            setattr(config, name, extra[name])
        for name in overrides.keys() - names:
            setattr(config, name, overrides[name])
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return every field under its name in a `config.json`, with unknown keys of the file and added attributes."""
        own: dict[str, Any] = {}
        defaults = {f.name: f.default for f in fields(self)}
        for name, value in self._values().items():
            if name in defaults:
                kept = name not in ("extra", "name_or_path") and not (value is None and defaults[name] is None)
            else:
                kept = value is None or isinstance(value, _JSON)
            if kept:
                own[name] = deepcopy(value)
        if self.name_or_path:
            own["_name_or_path"] = self.name_or_path
        return {**deepcopy(self.extra), **own, "model_type": self.model_type}

    def to_json_string(self, use_diff: bool = False) -> str:
        """Return the content of a `config.json`: sorted keys, two spaces; with `use_diff` that of `to_diff_dict`."""
        data = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults of the class, and `model_type`."""
        defaults = {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields(self)}
        kept = {name: value for name, value in self.to_dict().items() if value != defaults.get(name, MISSING)}
        return {**kept, "model_type": self.model_type}

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = False) -> None:
        """Write a `config.json`."""
        write_bytes(json_file_path, self.to_json_string(use_diff).encode())

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set several attributes at once.

        Raises:
            ConfigError: If a value is of the wrong type; nothing is changed then.
        """
        if not isinstance(config_dict, Mapping):
            raise ConfigError(f"`update` takes a dictionary, but got a {type(config_dict).__name__}.")
        ModelConfig.__post_init__(self.copy(**config_dict))
        before = {**vars(self), "extra": dict(self.extra)}
        ids = vars(before.get("special_ids", self))  # shared with the generation options
        kept = {name: copy(value) if isinstance(value, dict) else value for name, value in ids.items()}
        try:
            for name, value in config_dict.items():
                setattr(self, name, value)
        except ConfigError:
            self.__dict__.clear()
            self.__dict__.update(before)
            ids.update(kept)
            for name in config_dict:
                self._tell(name)
            raise

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into `folder`."""
        write_bytes(as_path(folder, "`folder`") / "config.json", self.to_json_string().encode())

    def copy(self, **changes: Any) -> Self:
        """Return an independent copy with some fields changed."""
        copied = deepcopy(self)
        for name, value in changes.items():
            setattr(copied, name, value)
        return copied


@dataclass(kw_only=True, init=False, eq=False)
class SpecAugmentConfig(ModelConfig):
    """The fields of families trained with SpecAugment (see `dragoman.spec.augment`)."""

    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0

    def _spec_augment(self) -> SpecAugmentSpec:
        return SpecAugmentSpec(
            time_prob=self.mask_time_prob,
            time_length=self.mask_time_length,
            time_min_masks=self.mask_time_min_masks,
            feature_prob=self.mask_feature_prob,
            feature_length=self.mask_feature_length,
            feature_min_masks=self.mask_feature_min_masks,
        )


def _types_of(cls: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value read from JSON has the type of a field; integers pass for floats, but not booleans."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def _in_words(hint: Any) -> str:
    """Return a type as words: "a whole number or null"."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return {"int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false"}.get(
            hint.__name__, "null" if hint is type(None) else hint.__name__
        )
    if typing.get_origin(hint) in (list, tuple):
        return f"a list in which each item is {_in_words(typing.get_args(hint)[0])}"
    return " or ".join(_in_words(option) for option in typing.get_args(hint)) or str(hint)
