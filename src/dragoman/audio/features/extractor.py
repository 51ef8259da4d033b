"""The feature extractor: waveforms to the inputs of an encoder, with the arguments and outputs of `transformers`.

`FeatureExtractor` checks waveforms, cuts, pads, makes masks and tensors, and is saved as
`preprocessor_config.json`. Each kind (`wav2vec2`, `whisper`, `filter_banks`) declares its fields and turns rows into
frames. All work in NumPy.
"""

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from dragoman.audio.features.padding import (
    Row,
    columns_of,
    lengths_to_pad_to,
    normalise_padded,
    pad_rows,
    padding_masks,
    rows_of,
    stack,
    stack_ragged,
    truncate,
)
from dragoman.audio.features.preprocessor_config import (
    FILE_NAME,
    check_fields,
    field_names,
    read_preprocessor_config,
)
from dragoman.audio.waveform import Waveform, check_samples
from dragoman.batch import Batch, to_numpy
from dragoman.errors import AudioError, ModelNotFoundError
from dragoman.files import as_path, write_json
from dragoman.hub import local_folder
from dragoman.publishing import PushMethods

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """The arguments of one call; see `FeatureExtractor.__call__`."""

    padding: bool | str | None
    max_length: int | None
    truncation: bool | None
    pad_to_multiple_of: int | None
    return_attention_mask: bool | None
    return_tensors: str | None
    sampling_rate: int | None
    normalize: bool | None = None


class FeatureExtractor(ABC, PushMethods):
    """A feature extractor of any kind.

    Attributes:
        model_input_names: The outputs, the model's main input first.
        derived: Attributes that follow from the fields and are saved with them.
        always_stacked: Whether rows of one shape become one array even if no tensors are asked for.
        feature_size: Features in each frame.
        sampling_rate: Of the waveforms, in hertz.
        padding_value: Value of the padding.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        extra: Other fields of the `preprocessor_config.json`; they are kept and saved again.
    """

    model_input_names: ClassVar[list[str]] = ["input_features", "attention_mask"]
    derived: ClassVar[tuple[str, ...]] = ()
    always_stacked: ClassVar[bool] = True
    feature_size: int
    sampling_rate: int
    padding_value: float
    return_attention_mask: bool
    padding_side: str
    extra: dict[str, Any]

    @abstractmethod
    def __call__(self, raw_speech: Any, *args: Any, **kwargs: Any) -> Batch:
        """Prepare waveforms for the model.

        Each kind takes those of the arguments below that its class in `transformers` takes, with the same defaults.

        Args:
            raw_speech: A waveform `[samples]` or several: a list of them, or an array `[batch, samples]`. Floats
                around -1…1, or integers, which are scaled.
            *args: The following arguments, in the order of the kind.
            **kwargs: The following arguments by name.
            padding: True or "longest" (to the longest of the batch), "max_length", or False or "do_not_pad".
            max_length: Length for `truncation` and `padding="max_length"`: in samples (wav2vec 2.0 and Whisper, where
                the default is its window) or in frames of the filter bank.
            truncation: Whether to cut clips longer than `max_length`. None, the default of Whisper, raises an error.
            pad_to_multiple_of: Round the padded length up to a multiple, in the unit of `max_length`.
            return_attention_mask: Overrides the field of the same name.
            return_tensors: "np", "pt" or "jax"; by default NumPy arrays, in a list where lengths differ.
            sampling_rate: Of `raw_speech`, in hertz: checked, not converted (`as_waveform` converts).
            do_normalize: Whisper: whether to normalise the waveforms to zero mean and unit variance.
            do_normalize_per_mel_bins: SeamlessM4T: whether to normalise each bin over the clip.
            device: Has no effect; NumPy computes the same result.

        Returns:
            `input_values` or `input_features`, float32 `[batch, length, …]`, and with a mask `attention_mask`, int32
            `[batch, length]`.

        Raises:
            AudioError: If the waveforms cannot be used, or `sampling_rate` is not the extractor's.
            ConfigError: If arguments contradict each other.
        """

    def frames(self, row: Waveform, call: Call) -> Row:
        """Return the frames of a waveform, which are cut and padded along the first axis; here its samples."""
        return row

    def inputs(self, frames: Row, length: int, call: Call) -> Row:
        """Return the model's input for frames that are padded to `length`."""
        return self._padded(frames, length)

    def step_mask(self, mask: Row) -> Row:
        """Return the mask of the model's input, given that of the frames."""
        return mask

    @property
    @abstractmethod
    def inputs_per_second(self) -> float:
        """Length of the model's input for a second of audio: samples or frames."""

    @abstractmethod
    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform that gives an input of this length without padding."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""
        own = {name: getattr(self, name) for name in (*field_names(type(self)), *self.derived)}
        return {"feature_extractor_type": type(self).__name__} | own | self.extra

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

    def to_json_string(self) -> str:
        """Return the text of `preprocessor_config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write `to_json_string` to a file."""
        write_json(as_path(json_file_path, "`json_file_path`"), self.to_dict())

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Read an extractor from a file that `to_json_file` wrote."""
        return cls.from_dict(read_preprocessor_config(as_path(json_file, "`json_file`")))

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write `preprocessor_config.json` into a folder, and return its path in a list."""
        path = as_path(save_directory, "`save_directory`") / FILE_NAME
        write_json(path, self.to_dict())
        return [str(path)]

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

        The arguments are those of a call, in samples or in frames of the input.

        Args:
            processed_features: A list of mappings, each with a row of the model's main input, `[length]` or `[length,
                features]` (Whisper's `[feature_size, frames]`), or one mapping with a list of them.
                Whisper's may also be `[frames, feature_size]`. Other keys are passed through.
            padding: Whether and how to pad.
            max_length: For `truncation` and `padding="max_length"`.
            truncation: Whether to cut.
            pad_to_multiple_of: Round the padded length up.
            return_attention_mask: Overrides the field of the same name.
            return_tensors: "np", "pt", "jax" or None.

        Raises:
            AudioError: If the main input is missing, or the keys disagree on the size of the batch.
        """
        columns = columns_of(processed_features, self.model_input_names[0])
        given = columns.pop(self.model_input_names[0])
        axis = self.time_axis(given[0].shape)
        rows = [np.moveaxis(row, axis, 0) for row in given]
        masks = columns.pop("attention_mask", None) or [np.ones(len(row), np.int32) for row in rows]
        if truncation:
            rows, masks = (truncate(parts, max_length, pad_to_multiple_of) for parts in (rows, masks))
        lengths = lengths_to_pad_to([len(row) for row in rows], padding, max_length, pad_to_multiple_of)
        padded = [
            pad_rows([row], [length], self.silence(row) if axis else self.padding_value, self.padding_side)[0]
            for row, length in zip(rows, lengths, strict=True)
        ]
        outputs = {self.model_input_names[0]: [np.moveaxis(row, 0, axis) for row in padded]} | columns
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            outputs["attention_mask"] = pad_rows(masks, lengths, 0, self.padding_side)
        if return_tensors == "np":
            return Batch({key: stack_ragged(parts) for key, parts in outputs.items()})
        return Batch({key: stack(parts, return_tensors) for key, parts in outputs.items()}, return_tensors)

    def time_axis(self, shape: tuple[int, ...]) -> int:
        """Return the axis that `pad` pads, of a row of the main input of this shape."""
        return 0

    def silence(self, row: Row) -> float:
        """Return the value that `pad` adds where time is not the first axis."""
        return self.padding_value

    @staticmethod
    def zero_mean_unit_var_norm(
        input_values: Sequence[Any], attention_mask: Any = None, padding_value: float = 0.0
    ) -> list[Row]:
        """Normalise padded waveforms to zero mean and unit variance.

        Args:
            input_values: The waveforms.
            attention_mask: Mask `[batch, length]`; the statistics are those of the samples that it keeps.
            padding_value: Value of the others afterwards.
        """
        lengths = [None] * len(input_values) if attention_mask is None else to_numpy(attention_mask).sum(-1)
        rows = zip(map(to_numpy, input_values), lengths, strict=True)
        return [normalise_padded(row, length, padding_value) for row, length in rows]

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ConfigError: With all faults found.
        """
        check_fields(type(self).__name__, vars(self), self.extra.pop("feature_extractor_type", None))
        self.extra.pop("processor_class", None)  # of the folder, which a processor writes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.to_dict().items())})"

    def _extract(self, raw_speech: Any, call: Call) -> Batch:
        rows: list[Row] = [self.frames(row, call) for row in self._waveforms(raw_speech, call)]
        if call.truncation:
            rows = truncate(rows, call.max_length, call.pad_to_multiple_of)
        lengths = lengths_to_pad_to([len(row) for row in rows], call.padding, call.max_length, call.pad_to_multiple_of)
        inputs = [self.inputs(row, length, call) for row, length in zip(rows, lengths, strict=True)]
        outputs: dict[str, list[Row]] = {self.model_input_names[0]: inputs}
        if self._with_mask(call):
            outputs["attention_mask"] = [
                self.step_mask(mask) for mask in padding_masks(rows, lengths, self.padding_side)
            ]
        if not self.always_stacked and call.return_tensors is None:
            return Batch(outputs)
        if not self.always_stacked and call.return_tensors == "np":
            return Batch({name: stack_ragged(parts) for name, parts in outputs.items()})
        return Batch({name: stack(parts, call.return_tensors) for name, parts in outputs.items()}, call.return_tensors)

    def _waveforms(self, raw_speech: Any, call: Call) -> list[Waveform]:
        """Return the waveforms of a call, checked."""
        name, own = type(self).__name__, self.sampling_rate
        if call.sampling_rate is None:
            _log.warning(
                "Pass `sampling_rate` to `%s`: audio at another rate than %d Hz would give wrong results silently.",
                name,
                own,
            )
        elif call.sampling_rate != own:
            raise AudioError(
                f"The model of this {name} was trained with a sampling rate of {own} Hz, but `raw_speech` was sampled "
                f"with {call.sampling_rate} Hz. Convert it with `as_waveform(array, "
                f"sampling_rate={call.sampling_rate}, target_sampling_rate={own})`."
            )
        rows = rows_of(raw_speech)
        for index, row in enumerate(rows):
            self._check(row, f"Waveform {index}: ")
        return rows

    def _check(self, row: Waveform, prefix: str) -> None:
        check_samples(row, prefix, self.sampling_rate)

    def _with_mask(self, call: Call) -> bool:
        return self.return_attention_mask if call.return_attention_mask is None else call.return_attention_mask

    def _padded(self, row: Row, length: int) -> Row:
        return pad_rows([row], [length], self.padding_value, self.padding_side)[0]
