"""Rows of different lengths as a batch: parsing the input, truncation, padding and masks.

The arguments are those of the feature extractors in `transformers`. A row is `[length]` or `[length, features]`;
everything works along its first axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dragoman.audio.waveform import Waveform, as_float32, normalise
from dragoman.batch import to_numpy
from dragoman.errors import AudioError, ConfigError

Row: TypeAlias = np.ndarray[Any, Any]

_STRATEGIES = ("longest", "max_length", "do_not_pad")


def rows_of(raw_speech: Any) -> list[Waveform]:
    """Return the waveforms that a feature extractor was called with.

    Args:
        raw_speech: One waveform (an array or a list of numbers), or several (a list of those, or an array `[batch,
            samples]`). A stereo recording `[2, samples]` looks like a batch of two and is taken for one: mix it down
            first.

    Raises:
        AudioError: If there is none, one is empty, or one has channels.
    """
    if isinstance(raw_speech, list | tuple):
        if len(raw_speech) == 0:
            raise AudioError("No audio was given. Pass an array of samples, or a list of them.")
        rows = [raw_speech] if np.isscalar(raw_speech[0]) else list(raw_speech)
    else:
        rows = _rows_of_array(to_numpy(raw_speech))
    waveforms = [_row(row) for row in rows]
    for index, waveform in enumerate(waveforms):
        if len(waveform) == 0:
            raise AudioError(f"Waveform {index} of {len(waveforms)} holds no samples. Leave it out.")
    return waveforms


def _rows_of_array(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.ndim == 2:
        if array.shape[1] <= 8 < array.shape[0]:
            raise AudioError(
                f"An array of shape {array.shape} looks like [samples, channels]. Only mono audio is supported: "
                "mix it down with `array.mean(axis=1)`."
            )
        return list(array)
    if array.ndim > 2:
        raise AudioError(
            f"Only mono-channel audio is supported: [samples] or [batch, samples], but got shape {array.shape}."
        )
    return [array]


def _row(row: Any) -> Waveform:
    if isinstance(row, list | tuple):  # of floats, even where they are written as integers
        try:
            row = np.asarray(row, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise AudioError(f"A waveform must be a flat list of numbers: {error}") from error
    return as_float32(row)


def truncate(rows: Sequence[Row], max_length: int | None, pad_to_multiple_of: int | None) -> list[Row]:
    """Cut rows to `max_length`, rounded up to a multiple.

    Raises:
        ConfigError: If `max_length` is None.
    """
    if max_length is None:
        raise ConfigError("`truncation=True` needs `max_length`: the length to cut to, in samples.")
    return [row[: _round_up(max_length, pad_to_multiple_of)] for row in rows]


def lengths_to_pad_to(
    lengths: Sequence[int], padding: bool | str | None, max_length: int | None, pad_to_multiple_of: int | None
) -> list[int]:
    """Return the padded length of each row, at least its own.

    Raises:
        ConfigError: If `padding` is unknown, or needs a `max_length` that is not given.
    """
    strategy = {True: "longest", False: "do_not_pad", None: "do_not_pad"}.get(padding, padding)  # type: ignore[arg-type]
    if strategy == "do_not_pad":
        return list(lengths)
    if strategy == "longest":
        target = max(lengths)
    elif strategy == "max_length":
        if max_length is None:
            raise ConfigError('`padding="max_length"` needs `max_length`: the length to pad to, in samples.')
        target = max_length
    else:
        raise ConfigError(f"`padding` must be True, False or one of {', '.join(_STRATEGIES)}, but is {padding!r}.")
    target = _round_up(target, pad_to_multiple_of)
    return [max(length, target) for length in lengths]


def pad_rows(rows: Sequence[Row], lengths: Sequence[int], value: float, side: str) -> list[Row]:
    """Return each row padded with `value` on one side ("right" or "left") to its length in `lengths`."""
    padded = []
    for row, length in zip(rows, lengths, strict=True):
        missing = length - len(row)
        before_and_after = (0, missing) if side == "right" else (missing, 0)
        padded.append(np.pad(row, [before_and_after] + [(0, 0)] * (row.ndim - 1), constant_values=value))
    return padded


def padding_masks(rows: Sequence[Row], lengths: Sequence[int], side: str) -> list[Row]:
    """Return an int32 mask `[length]` for each row that will be padded: 1 for its own positions, 0 for padding."""
    return pad_rows([np.ones(len(row), np.int32) for row in rows], lengths, 0, side)


def normalise_padded(row: Waveform, length: int | None, padding_value: float) -> Waveform:
    """Normalise the first `length` samples, by default all, and set the others to `padding_value`."""
    normalised = normalise(row, row[:length])
    if length is not None:
        normalised[length:] = padding_value
    return normalised


def stack(rows: Sequence[Row], return_tensors: str | None) -> Row | list[Row]:
    """Return one array if all rows have the same shape, else a list of them.

    Raises:
        AudioError: If the shapes differ and `return_tensors` asks for one tensor.
    """
    shapes = sorted({row.shape for row in rows})
    if len(shapes) == 1:
        return np.stack(rows)
    if return_tensors is not None:
        raise AudioError(
            f"Rows of different lengths cannot form one tensor: their shapes range from {shapes[0]} to {shapes[-1]}. "
            "Pass `padding=True`, or leave `return_tensors` out."
        )
    return list(rows)


def stack_ragged(rows: Sequence[Row]) -> Row:
    """Return one array if all rows have the same shape, else an array `[batch]` whose elements are the rows."""
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def columns_of(features: Any, name: str) -> dict[str, list[Row]]:
    """Return the rows under each key, float64 converted to float32.

    Args:
        features: A list of mappings, each with a row under `name`, or one mapping with lists of rows.
        name: The key that must be there.

    Raises:
        AudioError: If `name` is missing, or the keys disagree on the size of the batch.
    """
    if isinstance(features, list | tuple) and features and isinstance(features[0], Mapping):
        features = {key: [example[key] for example in features] for key in features[0]}
    if not isinstance(features, Mapping) or name not in features:
        came = f"the keys {', '.join(features)}" if isinstance(features, Mapping) else f"a {type(features).__name__}"
        raise AudioError(f"`pad` needs a list of mappings that include `{name}`, or one mapping, but got {came}.")
    columns = {key: [to_numpy(value) for value in values] for key, values in features.items()}
    columns = {
        key: [row.astype(np.float32) if row.dtype == np.float64 else row for row in rows]
        for key, rows in columns.items()
    }
    if not columns[name] or columns[name][0].ndim == 0:
        raise AudioError(f"`pad` needs at least one row under `{name}`: a list of arrays, not an array of numbers.")
    sizes = {key: len(rows) for key, rows in columns.items()}
    if len(set(sizes.values())) > 1:
        raise AudioError(f"All keys must have one row for each example, but have {sizes}.")
    return columns


def _round_up(length: int, multiple: int | None) -> int:
    if length < 1 or (multiple is not None and multiple < 1):
        raise ConfigError(f"`max_length` and `pad_to_multiple_of` must be at least 1, but are {length} and {multiple}.")
    return length if multiple is None else -(-length // multiple) * multiple
