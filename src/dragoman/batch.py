"""The output of processors: a dictionary of arrays whose items are attributes too.

Outside the backends, only `to_framework` and `to_numpy` convert between NumPy arrays and a framework's tensors. A
framework is imported only when it is asked for by name.
"""

from collections import UserDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from dragoman._lazy import require
from dragoman.errors import ConfigError, did_you_mean

_NUMBERS_AT_ONCE = 2**26  # 256 MiB as float32

_FRAMEWORKS = ("np", "pt", "jax", "flax")


def rows_at_once(numbers: int) -> int:
    """Return the number of rows to compute at once if each needs `numbers` scores or attention weights."""
    return max(1, _NUMBERS_AT_ONCE // numbers)


def to_framework(array: Any, name: str | None) -> Any:
    """Convert an array to a tensor of a framework.

    Args:
        array: A NumPy array (or nested lists of equal lengths).
        name: `"np"`, `"pt"` (PyTorch), `"jax"` or its synonym `"flax"`; `None` returns `array` unchanged.

    Raises:
        ConfigError: If `name` is none of these.
    """
    if name is None:
        return array
    if name == "np":
        return np.asarray(array)
    if name == "pt":
        return require("torch", 'return_tensors="pt"').from_numpy(np.ascontiguousarray(array))
    if name in ("jax", "flax"):
        return require("jax.numpy", f'return_tensors="{name}"').asarray(array)
    raise ConfigError(f"`return_tensors` must be one of {', '.join(map(repr, _FRAMEWORKS))} or None, but is {name!r}.")


def to_numpy(array: Any) -> np.ndarray[Any, Any]:
    """Convert a tensor of any framework and device, or a list, to a NumPy array."""
    detach = getattr(array, "detach", None)
    return np.asarray(array if detach is None else detach().cpu())


class Batch(UserDict[str, Any]):
    """A dictionary of arrays; `batch["input_values"]` and `batch.input_values` are the same, `model(**batch)` works."""

    def __init__(self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None) -> None:
        super().__init__({key: to_framework(value, tensor_type) for key, value in (data or {}).items()})

    def __getattr__(self, name: str) -> Any:
        if name == "data" or name.startswith("__"):  # not yet initialised (copy, pickle)
            raise AttributeError(name)
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(
                f"The batch has no {name!r}, only {', '.join(self.data)}.{did_you_mean(name, self.data)}"
            ) from None

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """Move every PyTorch tensor, as `tensor.to` does (`dtype` applies to floating-point tensors only)."""

        def move(value: Any) -> Any:
            if getattr(value, "to", None) is None:
                return value
            if value.dtype.is_floating_point:
                return value.to(*args, **kwargs)
            kept = [a for a in args if type(a).__name__ != "dtype"]
            return value.to(*kept, **{k: v for k, v in kwargs.items() if k != "dtype"})

        self.data = {key: move(value) for key, value in self.data.items()}
        return self
