"""`GenerationConfig`: the options of `generate` with the names, meanings and file format of `transformers`."""

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Self

from dragoman.errors import GenerationError, ModelNotFoundError, did_you_mean
from dragoman.files import as_path, read_json, write_bytes
from dragoman.generation.option_fields import OptionFields
from dragoman.generation.rules import problems
from dragoman.hub import find_folder, matching
from dragoman.spec.ids import SpecialIds

_FILE_NAME = "generation_config.json"
_METADATA = ("_from_model_config", "transformers_version", "_commit_hash")


class GenerationConfig(OptionFields):
    """Options of `generate`: the fields of `OptionFields`, documented there.

    Attributes may be changed at any time; `validate` runs again before each use. An option that nobody has set, or that
    was set to `None`, has its default.
    """

    def __init__(self, **values: Any) -> None:
        """Set the given options; `None` stands for a default, as in `transformers` 5.

        Raises:
            GenerationError: If a name is unknown or a value is not allowed; the message lists every error.
        """
        self.extra = {}
        self._set(self._known(values))
        self.validate()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option; names that are none are kept in `extra` and saved."""
        if name in _FIELDS and name not in _IDS and value is None:
            self.__dict__.pop(name, None)  # the default, which the class has
        elif name in _FIELDS or name in _OWN or name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            hint = "" if name in _IDLE or name in self.extra else did_you_mean(name, _FIELDS)
            if hint:
                warnings.warn(f"`{name}` is no option of `generate`.{hint}", UserWarning, stacklevel=2)
            self.extra[name] = value

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for names that are neither options nor methods.
        if name in self.__dict__.get("extra", {}):
            return self.extra[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares no ids with a model, unless the model is copied too."""
        copied = type(self)()
        for name, value in vars(self).items():
            if name not in ("special_ids", "own_ids"):
                object.__setattr__(copied, name, copy.deepcopy(value, memo))
        ids = memo.get(id(self.__dict__.get("special_ids")))
        if ids is None:
            copied._set({name: copy.deepcopy(value) for name in _IDS if (value := getattr(self, name)) is not None})
        else:
            vars(copied).update(special_ids=ids, own_ids=copy.deepcopy(self.__dict__.get("own_ids", {}), memo))
        return copied

    def __copy__(self) -> Self:
        """Return a copy that shares no ids with a model."""
        return copy.deepcopy(self)

    def validate(self) -> None:
        """Check the options alone and together.

        Raises:
            GenerationError: Listing every error.
        """
        errors = problems(self)
        if errors:
            raise GenerationError(" ".join(errors))

    def update(self, defaults_only: bool = False, **values: Any) -> dict[str, Any]:
        """Set options in place and return those with unknown names, as `transformers` does.

        Args:
            defaults_only: Set only options that are not set.
            **values: Options and their new values.

        Raises:
            GenerationError: If a value is not allowed. The options are then unchanged.
        """
        known = self._known({name: value for name, value in values.items() if name in _FIELDS})
        if defaults_only:
            known = {name: value for name, value in known.items() if name not in self.given()}
        self.replace(**known)
        self._set(known)
        return {name: value for name, value in values.items() if name not in _FIELDS}

    def replace(self, **values: Any) -> Self:
        """Return a copy with some options changed; its special ids are its own.

        Raises:
            GenerationError: If a name is unknown or a value is not allowed.
        """
        changed = copy.deepcopy(self)
        changed._set(self._known(values))
        changed.validate()
        return changed

    def given(self) -> dict[str, Any]:
        """Return the options that are set, whether or not to their defaults."""
        return {
            name: value
            for name in _FIELDS
            if (value := getattr(self, name)) is not None and (name in _IDS or name in vars(self))
        }

    def over(self, base: "GenerationConfig") -> "GenerationConfig":
        """Return a copy of `base`, updated with every option that is set here."""
        merged = copy.deepcopy(base)
        merged._set(copy.deepcopy(self.given()))
        merged.extra = {**base.extra, **self.extra}
        return merged

    @classmethod
    def of(cls, options: Any) -> "GenerationConfig":
        """Return `options` if they are a `GenerationConfig`, or convert those of `transformers`.

        Raises:
            GenerationError: If they are neither.
        """
        if isinstance(options, GenerationConfig):
            return options
        try:
            return cls.from_dict(options.to_diff_dict())
        except AttributeError:
            raise GenerationError(
                f"Options of `generate` must be a GenerationConfig, but got a {type(options).__name__}: "
                f"{options!r:.80}. Use GenerationConfig.from_dict for a dictionary, from_pretrained for a folder."
            ) from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the contents of a `generation_config.json`, written by `transformers` 4 or 5.

        Unknown entries are kept in `extra`. Values are not checked here, but by `generate`.
        """
        config = cls()
        # `transformers` 5 writes null where version 4 wrote the default.
        config._set({name: value for name, value in values.items() if name in _FIELDS and value is not None})
        config.extra = {n: v for n, v in values.items() if n not in _FIELDS and n not in _METADATA}
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, and the unknown ones that were read."""
        values = self._changed()
        if not self.max_length:  # 0 means no limit here, but not in `transformers`
            values.pop("max_length", None)
        if isinstance(self.sequence_bias, dict):  # JSON has no tuples as keys
            values["sequence_bias"] = [[list(ids), bias] for ids, bias in self.sequence_bias.items()]
        return {**self.extra, **values}

    to_diff_dict = to_dict

    @classmethod
    def from_model_config(cls, model_config: Any) -> Self:
        """Return the options and special ids that a model's configuration has, or its dictionary.

        What a joint configuration does not set is its decoder's. A model's own `generation_config` has them already.
        """
        data = model_config if isinstance(model_config, Mapping) else model_config.to_dict()
        decoder = data.get("decoder")
        sources = [data, decoder if isinstance(decoder, Mapping) else {}]
        found = {name: next((one[name] for one in sources if one.get(name) is not None), None) for name in _FIELDS}
        return cls.from_dict(found)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None, **options: Any) -> Self:
        """Read the `generation_config.json` of a model: a folder, or an id on the hub; `options` win over the file's.

        Raises:
            ModelNotFoundError: If there is no such model, or no such file.
            GenerationError: If the file holds no JSON object, or an option is unknown or not allowed.
        """
        file = find_folder(name_or_path, matching([_FILE_NAME]), revision=revision) / _FILE_NAME
        if not file.is_file():
            raise ModelNotFoundError(
                f"{name_or_path} must hold a {_FILE_NAME}, but has none. Use `GenerationConfig()`."
            )
        read = cls.from_json_file(file)
        return read.replace(**options) if options else read

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `generation_config.json` into a folder, which is created if needed."""
        self.to_json_file(as_path(folder, "`folder`") / _FILE_NAME)

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """Read a `generation_config.json`.

        Raises:
            ModelNotFoundError: If there is no such file.
            GenerationError: If it holds no JSON object.
        """
        return cls.from_dict(read_json(path, GenerationError))

    def to_json_file(self, path: str | Path) -> None:
        """Write a `generation_config.json`."""
        write_bytes(path, self.to_json_string().encode())

    def to_json_string(self) -> str:
        """Return the contents of a `generation_config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def _changed(self) -> dict[str, Any]:
        return {name: value for name in _FIELDS if (value := getattr(self, name)) != _default(name)}

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    @staticmethod
    def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
        unknown = [name for name in values if name not in _FIELDS and name not in _IDLE]
        if unknown:
            hints = " ".join(f"`{name}` is not one.{did_you_mean(name, _FIELDS)}" for name in unknown)
            raise GenerationError(f"Only options of `generate` can be set. {hints}")
        return values

    @staticmethod
    def _get_default_generation_params() -> dict[str, Any]:
        # `Seq2SeqTrainer` of `transformers` sets these, through `update`, where the value is None. It needs a number in
        # `max_length`, up to which it pads; the 20 of `transformers` would cut all later sequences.
        return {"max_length": 0}


# Options of `transformers` about the speed or memory of its search, not about the result: kept, without effect here.
_IDLE = {
    "assistant_lookbehind", "cache_config", "cache_implementation", "compile_config", "disable_compile", "is_assistant",
    "low_memory", "max_cache_len", "max_matching_ngram_size", "num_assistant_tokens_schedule", "prefill_chunk_size",
    "target_lookbehind",
}  # fmt: skip
_IDS = SpecialIds.names()
_OWN = ("extra", "special_ids", "own_ids")
_FIELDS = {option.name: option for option in fields(GenerationConfig) if option.name != "extra"}


def _default(name: str) -> Any:
    default = _FIELDS[name].default
    return None if default is MISSING else default
