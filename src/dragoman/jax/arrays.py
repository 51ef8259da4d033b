"""JAX as `dragoman.model.arrays.Arrays`.

What is not traced is computed by NumPy, so that no shape of the caller's makes XLA compile anything.
"""

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from dragoman.api.checks import IGNORED
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.layers import frame_mask
from dragoman.jax.net.loss import cross_entropy
from dragoman.model.arrays import Arrays


def is_traced(*trees: Any) -> bool:
    """Whether a value in trees cannot be read, because a program that takes it is being compiled."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


class JaxArrays:
    """Arrays of JAX and NumPy; the methods are explained in `Arrays`."""

    name = "an array"
    return_tensors = "np"
    cache_class = Cache
    memory_class = Memory
    cross_entropy = staticmethod(cross_entropy)
    frame_mask = staticmethod(frame_mask)

    def is_array(self, value: object) -> bool:
        return isinstance(value, jax.Array | np.ndarray)

    def dtype_name(self, array: Any) -> str:
        return str(array.dtype)

    def to_mask(self, array: Any) -> Any:
        return array.astype(bool)

    def to_tokens(self, array: Any) -> Any:
        return array

    def to_device(self, array: Any) -> Any:
        return jax.device_put(array)

    def is_known(self, array: Any) -> bool:
        return not is_traced(array)

    def id_range(self, tokens: Any, *, ignored: bool, wait: bool) -> tuple[int, int] | None:
        if not self.is_known(tokens):
            return None
        if not (wait or isinstance(tokens, np.ndarray) or all(x.platform == "cpu" for x in tokens.devices())):
            return None
        numbers = np.asarray(tokens)
        numbers = numbers[numbers != IGNORED] if ignored else numbers
        return (int(numbers.min()), int(numbers.max())) if numbers.size else None

    def all_finite(self, array: Any) -> bool:
        return not isinstance(array, np.ndarray) or bool(np.isfinite(array).all())

    def is_binary(self, array: Any) -> bool:
        if array.dtype == bool or not self.is_known(array):
            return True
        if not isinstance(array, np.ndarray) and any(x.platform != "cpu" for x in array.devices()):
            return True
        numbers = np.asarray(array)
        return bool(((numbers == 0) | (numbers == 1)).all())

    def valid_first(self, rows: Any, mask: Any) -> tuple[Any, Any]:
        if not (self.is_known(rows) and self.is_known(mask)):
            traced = jnp.argsort(~mask, axis=1, stable=True)
            return jnp.take_along_axis(rows, traced.reshape(*mask.shape, *(1,) * (rows.ndim - 2)), axis=1), mask.sum(1)
        rows, kept = np.asarray(rows), np.asarray(mask)
        order = np.argsort(~kept, axis=1, kind="stable").reshape(*kept.shape, *(1,) * (rows.ndim - 2))
        return np.take_along_axis(rows, order, axis=1), kept.sum(1, dtype=np.int32)

    def namespace(self, array: Any) -> tuple[Any, Any]:
        return (np, np.asarray(array)) if self.is_known(array) else (jnp, array)


ARRAYS: Final[Arrays] = JaxArrays()
