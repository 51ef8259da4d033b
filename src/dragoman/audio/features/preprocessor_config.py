"""The fields of a feature extractor: declared by each kind, checked, and read from `preprocessor_config.json`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from dragoman.audio.waveform import MAX_RATE, MIN_RATE
from dragoman.errors import ConfigError, ModelNotFoundError
from dragoman.files import read_json

FILE_NAME = "preprocessor_config.json"
_PROCESSOR_FILE_NAME = "processor_config.json"  # newer checkpoints nest the same fields in it

# The range of each integer field, in every kind that has it.
_LIMITS = {
    "feature_size": (1, 1024),
    "num_mel_bins": (1, 1024),
    "sampling_rate": (MIN_RATE, MAX_RATE),
    "hop_length": (1, 1 << 16),
    "chunk_length": (1, 3600),
    "n_fft": (2, 1 << 16),
    "stride": (1, 1024),
}


def read_preprocessor_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the fields of a feature extractor.

    Args:
        path: A folder with `processor_config.json` or `preprocessor_config.json`, or such a file itself.

    Raises:
        ModelNotFoundError: If there is no such file.
        ConfigError: If it is not a JSON object.
    """
    path = Path(path)
    if path.is_file():
        return read_json(path, ConfigError)
    nested = path / _PROCESSOR_FILE_NAME
    if nested.is_file():
        fields = read_json(nested, ConfigError)
        for name in ("feature_extractor", "audio_processor"):
            if isinstance(fields.get(name), dict):
                return dict(fields[name])
    if (path / FILE_NAME).is_file():
        return read_json(path / FILE_NAME, ConfigError)
    raise ModelNotFoundError(
        f"{path}: no {FILE_NAME} (or {_PROCESSOR_FILE_NAME} with a feature extractor) there. "
        "Pass the folder of a speech model, or create an extractor and save it there with `save_pretrained`."
    )


Extractor = TypeVar("Extractor")


@dataclass_transform(field_specifiers=(field,))
def kind(cls: type[Extractor]) -> type[Extractor]:
    """Make a kind of feature extractor out of a class with annotated fields, as `dataclass` does.

    Its `__init__` takes other fields too and keeps them in `extra`, except for names that begin with `_` (internals of
    the writer) and for those in `derived`.
    """
    made: Any = dataclass(eq=False, repr=False)(cls)
    set_fields, names = made.__init__, set(field_names(made))

    @wraps(set_fields)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        left_out = names.union(made.derived)
        self.extra = {key: kwargs[key] for key in kwargs if key not in left_out and not key.startswith("_")}
        set_fields(self, *args, **{key: kwargs[key] for key in kwargs if key in names})

    made.__init__ = __init__
    return cls


def field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields that a kind declares, in order."""
    return tuple(declared.name for declared in fields(kind))


def check_fields(extractor: str, values: Mapping[str, Any], stated: str | None) -> None:
    """Raise if a field is wrong.

    Args:
        extractor: Name of the class.
        values: By field.
        stated: Name of the class in the file that the values are from.

    Raises:
        ConfigError: With all faults found.
    """
    faults = []
    for name, (low, high) in _LIMITS.items():
        value = values.get(name, low)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            faults.append(f"`{name}` must be a whole number from {low} to {high}, but is {value!r}.")
    if isinstance(values["padding_value"], bool) or not isinstance(values["padding_value"], int | float):
        faults.append(f"`padding_value` must be a number, but is {values['padding_value']!r}.")
    if values["padding_side"] not in ("right", "left"):
        faults.append(f'`padding_side` must be "right" or "left", but is {values["padding_side"]!r}.')
    if stated not in (None, extractor):
        faults.append(f"These are the fields of {stated}, not of {extractor}.")
    if faults:
        raise ConfigError(f"{extractor}: {' '.join(faults)}")
