"""NumPy as `dragoman.model.arrays.Arrays`."""

from typing import Any, Final

import numpy as np

from dragoman.api.checks import IGNORED
from dragoman.errors import ConfigError
from dragoman.model.arrays import Arrays


class NumPyArrays:
    """Arrays of NumPy; the methods are explained in `Arrays`."""

    name = "an array of NumPy"
    return_tensors = "np"
    cache_class: type[Any] = type(None)
    memory_class: type[Any] = type(None)

    def is_array(self, value: object) -> bool:
        return isinstance(value, np.ndarray)

    def dtype_name(self, array: Any) -> str:
        return str(array.dtype)

    def to_mask(self, array: Any) -> Any:
        return array.astype(bool)

    def to_tokens(self, array: Any) -> Any:
        return array.astype(np.int64)

    def to_device(self, array: Any) -> Any:
        return array

    def is_known(self, array: Any) -> bool:
        return True

    def id_range(self, tokens: Any, *, ignored: bool, wait: bool) -> tuple[int, int] | None:
        numbers = tokens[tokens != IGNORED] if ignored else tokens
        return (int(numbers.min()), int(numbers.max())) if numbers.size else None

    def all_finite(self, array: Any) -> bool:
        return bool(np.isfinite(array).all())

    def is_binary(self, array: Any) -> bool:
        return array.dtype == bool or bool(((array == 0) | (array == 1)).all())

    def valid_first(self, rows: Any, mask: Any) -> tuple[Any, Any]:
        order = np.argsort(~mask, axis=1, kind="stable").reshape(*mask.shape, *(1,) * (rows.ndim - 2))
        return np.take_along_axis(rows, order, axis=1), mask.sum(1)

    def frame_mask(self, lengths: Any, frames: int) -> Any:
        return np.arange(frames) < lengths[:, None]

    def namespace(self, array: Any) -> tuple[Any, Any]:
        return np, array

    def cross_entropy(self, logits: Any, labels: Any, num_items: Any = None, label_smoothing: float = 0.0) -> Any:
        raise ConfigError("Exported graphs are for generation, so they have no loss. Train with PyTorch or JAX.")


ARRAYS: Final[Arrays] = NumPyArrays()
