"""The few array operations that the search needs and the array API standard lacks, for NumPy, PyTorch and JAX.

Every function of `dragoman.generation` is written over an `Ops`: `ops.xp` is the array API namespace of the arrays in
use, and the methods are the rest. No framework is imported here except through an array of its own.

Legend: rows = sequences in flight (utterances, or utterances x beams); vocab = the size of the decoder's output.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_jax_namespace, is_torch_namespace

Array: TypeAlias = Any
"""An array of NumPy, PyTorch or JAX."""

Length: TypeAlias = Any
"""A count of tokens: a Python `int` in a Python loop, a traced scalar inside `jax.jit`."""


MINUS_INFINITY = float("-inf")


class Ops(Protocol):
    """The operations of one array library."""

    xp: Any

    def device(self, x: Array) -> Any:
        """Return the device of `x`, for new arrays; `None` leaves it to the library."""
        ...

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        """Return the `k` largest values of the last axis, largest first, and their indices."""
        ...

    def log_softmax(self, x: Array) -> Array:
        """Return the logarithm of the softmax over the last axis."""
        ...

    def gather(self, x: Array, indices: Array) -> Array:
        """Index the second axis: `[a, n, ...]` by indices `[a, k, ...]` of the same rank -> `[a, k, ...]`."""
        ...

    def scatter_add(self, indices: Array, values: Array, size: int) -> Array:
        """Return zeros `[rows, size]` with `values` `[rows, n]` added at the columns `indices` `[rows, n]`."""
        ...


@dataclass
class _NumPyOps:
    xp: Any

    def device(self, x: Array) -> Any:
        return None

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        nearest = np.argpartition(x, x.shape[-1] - k, axis=-1)[..., x.shape[-1] - k :]
        values = np.take_along_axis(x, nearest, axis=-1)
        order = np.lexsort((nearest, -values), axis=-1)  # largest first; among equals, the lowest index
        return np.take_along_axis(values, order, axis=-1), np.take_along_axis(nearest, order, axis=-1)

    def log_softmax(self, x: Array) -> Array:
        shifted = x - np.max(x, axis=-1, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))

    def gather(self, x: Array, indices: Array) -> Array:
        return np.take_along_axis(x, indices, axis=1)

    def scatter_add(self, indices: Array, values: Array, size: int) -> Array:
        out = np.zeros((values.shape[0], size), dtype=values.dtype)
        np.add.at(out, (np.arange(values.shape[0])[:, None], indices), values)
        return out


@dataclass
class _TorchOps:
    xp: Any

    def device(self, x: Array) -> Any:
        return x.device

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        values, indices = x.topk(k)
        return values, indices

    def log_softmax(self, x: Array) -> Array:
        return x.log_softmax(-1)

    def gather(self, x: Array, indices: Array) -> Array:
        return x.gather(1, indices)  # `take_along_dim` also handles negative indices, which costs three kernels more

    def scatter_add(self, indices: Array, values: Array, size: int) -> Array:
        return values.new_zeros((values.shape[0], size)).scatter_add(1, indices, values)


class _JaxOps:
    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._lax = import_module("jax.lax")
        self._nn = import_module("jax.nn")

    def device(self, x: Array) -> Any:
        return None  # a traced array has no device

    def top_k(self, x: Array, k: int) -> tuple[Array, Array]:
        values, indices = self._lax.top_k(x, k)
        return values, indices

    def log_softmax(self, x: Array) -> Array:
        return self._nn.log_softmax(x, axis=-1)

    def gather(self, x: Array, indices: Array) -> Array:
        return self.xp.take_along_axis(x, indices, axis=1)

    def scatter_add(self, indices: Array, values: Array, size: int) -> Array:
        rows = self.xp.arange(values.shape[0])[:, None]
        return self.xp.zeros((values.shape[0], size), dtype=values.dtype).at[rows, indices].add(values)


def ops_of(array: Array) -> Ops:
    """Return the operations of the library that `array` belongs to."""
    xp = array_namespace(array)
    if is_torch_namespace(xp):
        return _TorchOps(xp)
    return _JaxOps(xp) if is_jax_namespace(xp) else _NumPyOps(xp)


def when(ops: Ops, condition: Any, changed: Callable[[], Array], unchanged: Array) -> Array:
    """Return `changed()` if `condition` holds, else `unchanged`; `condition` is a Python `bool` or a traced one."""
    if isinstance(condition, bool):
        return changed() if condition else unchanged
    return ops.xp.where(condition, changed(), unchanged)


def has_possible(ops: Ops, scores: Array) -> Array:
    """Return bool `[rows]`: whether scores `[rows, n]` leave a token to choose: none is NaN, some is above -inf."""
    return ops.xp.max(scores, axis=-1) > MINUS_INFINITY  # a maximum is NaN if any score is


def is_any(tokens: Array, ids: Sequence[int]) -> Array:
    """Return bool of the shape of `tokens`: whether each is one of `ids`."""
    found = tokens == (ids[0] if ids else -1)
    for one in ids[1:]:
        found = found | (tokens == one)
    return found


def padded_to(ops: Ops, tokens: Array, length: int, value: int) -> Array:
    """Pad `tokens` `[rows, n]` with `value` on the right -> `[rows, length]`."""
    shape = (tokens.shape[0], length - tokens.shape[1])
    return ops.xp.concat([tokens, ops.xp.full(shape, value, dtype=tokens.dtype, device=ops.device(tokens))], axis=1)


def written_at(ops: Ops, buffer: Array, index: Length, values: Array, where: Array | None = None) -> Array:
    """Return `buffer` `[..., n]` with `values` `[...]` at one index of its last axis, in the rows `where` if given."""
    here = ops.xp.arange(buffer.shape[-1], device=ops.device(buffer)) == index
    if where is not None:
        here = here & where[..., None]
    return ops.xp.where(here, values[..., None], buffer)
