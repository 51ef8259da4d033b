"""`preprocessor_config.json`: the fields of a feature extractor on disk, the same file that Hugging Face writes."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from dragoman.audio.features.padding import pad_features
from dragoman.batch import Batch
from dragoman.errors import ConfigError, ModelNotFoundError
from dragoman.files import as_path, read_json, write_json
from dragoman.hub import local_folder

__all__ = ["StoredExtractor", "check_fields", "extra_fields", "read_preprocessor_config", "write_preprocessor_config"]

FILE_NAME = "preprocessor_config.json"
_PROCESSOR_FILE_NAME = "processor_config.json"  # newer checkpoints keep the same fields in it, one level down


def read_preprocessor_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the fields of a feature extractor.

    Args:
        path: A folder with `processor_config.json` or `preprocessor_config.json`, or such a file itself.

    Raises:
        ModelNotFoundError: If there is none.
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
        "Give the folder of a speech model, or make an extractor and save it there with `save_pretrained`."
    )


def write_preprocessor_config(fields: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[str]:
    """Write `fields` into `folder`, made if need be, and return the path of the file as the only item of a list."""
    path = as_path(folder, "`save_directory`") / FILE_NAME
    write_json(path, fields)
    return [str(path)]


class StoredExtractor(ABC):
    """A feature extractor that is its fields: made from them, saved as them, shown as them.

    Attributes:
        model_input_names: What it returns, the model's main input first.
        padding_value: What rows are padded with.
        padding_side: "right" or "left".
        return_attention_mask: Whether to return the mask by default.
    """

    model_input_names: ClassVar[tuple[str, ...]]
    padding_value: float
    padding_side: str
    return_attention_mask: bool

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""

    @classmethod
    def from_dict(cls, feature_extractor_dict: Mapping[str, Any], **kwargs: Any) -> Self:
        """Make an extractor from the fields that `to_dict` returns; `kwargs` replace some of them."""
        return cls(**{**feature_extractor_dict, **kwargs})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Read an extractor from a folder, its `preprocessor_config.json`, or a model of the hub.

        Args:
            pretrained_model_name_or_path: A local folder, a file, or a hub id such as "facebook/wav2vec2-base-960h".
            kwargs: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`, `subfolder`; fields in place
                of those in the file.

        Raises:
            ModelNotFoundError: If there is no such file.
            ConfigError: If it is malformed, or of another kind of extractor.
        """
        path = as_path(pretrained_model_name_or_path, "The name of a model (a folder or a hub id)", ModelNotFoundError)
        if not os.path.isfile(path):
            path, kwargs = local_folder(pretrained_model_name_or_path, kwargs)
        return cls.from_dict(read_preprocessor_config(path), **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write `preprocessor_config.json` into a folder, and return its path in a list."""
        return write_preprocessor_config(self.to_dict(), save_directory)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str | None = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> Batch:
        """Join features that were extracted one by one, as a data collator does. Nothing is normalised.

        Args:
            processed_features: A list of mappings, each with a row of the model's main input, `[length]` or `[length,
                features]` (Whisper's `[feature_size, frames]`, all of one shape), or one mapping with a list of them.
                Other keys are passed through.
            padding: As when called, along the first axis of the rows; so are the other arguments.
            max_length: See there.
            truncation: See there.
            pad_to_multiple_of: See there.
            return_attention_mask: See there.
            return_tensors: See there.
        """
        return pad_features(
            processed_features,
            name=self.model_input_names[0],
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            with_mask=self.return_attention_mask if return_attention_mask is None else return_attention_mask,
            return_tensors=return_tensors,
            value=self.padding_value,
            side=self.padding_side,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.to_dict().items())})"


def extra_fields(fields: Mapping[str, Any], derived: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return those of the `fields` that are not ours (`processor_class`, …), to be kept when the file is saved again.

    Left out are names that begin with `_`, which their writers use inside, and what is `derived` from other fields.
    """
    return {
        key: value
        for key, value in fields.items()
        if key != "feature_extractor_type" and key not in derived and not key.startswith("_")
    }


def check_fields(extractor: str, fields: Mapping[str, Any], limits: Mapping[str, tuple[int, int]]) -> None:
    """Raise unless the integers of `limits` lie within them, and the fields that all extractors share are of their
    kinds.

    Raises:
        ConfigError: With every fault found.
    """
    faults = []
    for name, (low, high) in limits.items():
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            faults.append(f"`{name}` must be a whole number from {low} to {high}, but is {value!r}.")
    if isinstance(fields["padding_value"], bool) or not isinstance(fields["padding_value"], int | float):
        faults.append(f"`padding_value` must be a number, but is {fields['padding_value']!r}.")
    if fields["padding_side"] not in ("right", "left"):
        faults.append(f'`padding_side` must be "right" or "left", but is {fields["padding_side"]!r}.')
    stated = fields.get("feature_extractor_type", extractor)
    if stated != extractor:
        faults.append(f"These are the fields of {stated}, not of {extractor}.")
    if faults:
        raise ConfigError(f"{extractor}: {' '.join(faults)}")
