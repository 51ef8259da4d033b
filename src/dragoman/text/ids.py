"""Token ids: lists, arrays or tensors as plain rows, and padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import TokenizerError

LIMIT = 2**32  # of ids in the Rust library


def id_rows(ids: Any) -> tuple[list[list[int]], bool]:
    """Return ids as rows, and whether they were several.

    Args:
        ids: One id, a sequence of ids or a sequence of such sequences; lists (rows may differ in length), NumPy arrays,
            tensors of any framework on any device; or a mapping with such `input_ids`, or `sequences` (of `generate`).

    Raises:
        TokenizerError: If they are not whole numbers, are negative, or have more than two dimensions.
    """
    if isinstance(ids, Mapping):
        name = "input_ids" if "input_ids" in ids else "sequences"
        if name not in ids:
            names = ", ".join(map(str, ids.keys()))
            raise TokenizerError(f"A mapping of token ids must have `input_ids` or `sequences`, but has {names}.")
        ids = ids[name]
    if isinstance(ids, (list, tuple)) and ids and not _is_number(ids[0]):
        return [_row(row) for row in ids], True
    if not isinstance(ids, (list, tuple)) and np.ndim(array := to_numpy(ids)) > 1:
        return [_row(row) for row in array], True
    return [_row(ids)], False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0


def _row(ids: Any) -> list[int]:
    if isinstance(ids, (list, tuple)) and all(type(i) is int and 0 <= i < LIMIT for i in ids):
        return list(ids)  # the common case, without NumPy
    # Elements of a list may be tensors on a device.
    array = np.atleast_1d(np.asarray([to_numpy(i) for i in ids]) if isinstance(ids, (list, tuple)) else to_numpy(ids))
    if array.ndim > 1:
        raise TokenizerError(
            f"Token ids must have one dimension, or two for a batch, but have the shape {array.shape}."
        )
    if array.size and array.dtype.kind not in "iu":
        raise TokenizerError(
            f"Token ids must be whole numbers, but are {array.dtype}. Were logits passed instead of ids?"
        )
    if array.size and array.min() < 0:
        raise TokenizerError(
            f"Token ids must not be negative, but one is {array.min()}. -100 marks ignored labels: replace it by "
            "`pad_token_id` before decoding."
        )
    if array.size and array.max() >= LIMIT:
        raise TokenizerError(f"There is no token {array.max()}.")
    row: list[int] = array.tolist()
    return row


def pad_rows(rows: Sequence[Sequence[Any]], length: int, value: Any, side: str) -> list[list[Any]]:
    """Pad every row shorter than `length` with `value` on one side."""
    fills = [[value] * (length - len(row)) for row in rows]
    if side == "left":
        return [fill + list(row) for fill, row in zip(fills, rows, strict=True)]
    return [list(row) + fill for fill, row in zip(fills, rows, strict=True)]


def padded_length(
    rows: Sequence[Sequence[int]], padding: bool | str, max_length: int | None, multiple: int | None
) -> int | None:
    """Return the padded length, or `None` for no padding.

    Raises:
        TokenizerError: If `padding` is unknown.
    """
    if padding in (False, "do_not_pad"):
        return None
    if padding in (True, "longest"):
        length: int | None = max((len(row) for row in rows), default=0)
    elif padding == "max_length":
        length = max_length
    else:
        raise TokenizerError(f'`padding` must be True, False, "longest" or "max_length", but is {padding!r}.')
    return length if length is None or not multiple else -(-length // multiple) * multiple


def id_array(rows: Sequence[Sequence[Any]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return rows of the same length as an array `[batch, length]`, of offsets `[batch, length, 2]`.

    Raises:
        TokenizerError: If their lengths differ.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise TokenizerError(
            f"Rows of {min(lengths)} to {max(lengths)} tokens do not fit into one array. "
            "Use `padding=True`, or `truncation=True` with `max_length`."
        )
    array = np.array(rows, dtype=np.int64)
    return array.reshape(len(rows), max(lengths, default=0), *array.shape[2:])
