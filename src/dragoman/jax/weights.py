"""Arrays between checkpoints and modules: filling modules that were built with shapes only, and saving them.

Each tensor is read by NumPy and put on the device at once, so that memory peaks at about one copy of the weights.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import DTypeLike

from dragoman.checkpoint import filling
from dragoman.checkpoint.filling import Readable
from dragoman.checkpoint.keymap import KeyMap
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import CheckpointError
from dragoman.jax.net.init import shapes_of
from dragoman.jax.net.layers import LoraLinear
from dragoman.jax.net.tree import flat, nested, tree_of, update

__all__ = ["fill", "jax_dtype", "their_tensors"]


def jax_dtype(dtype: Any) -> Any:
    """Return the type that a name ("float16", "torch.float16") or a type of NumPy or JAX means.

    Raises:
        CheckpointError: If it is not a floating type.
    """
    try:
        found = None if dtype is None else jnp.dtype(dtype.removeprefix("torch.") if isinstance(dtype, str) else dtype)
    except TypeError:
        found = jnp.dtype(int)
    if found is not None and not jnp.issubdtype(found, jnp.floating):
        raise CheckpointError(
            f'`dtype` must be "float32", "float16", "bfloat16", "float64" or "auto", but is {dtype!r}.'
        )
    return found


def fill(
    part: nnx.Module,
    keymap: KeyMap,
    file: Readable,
    *,
    prefix: str = "",
    optional: Iterable[str] = (),
    may_be_fresh: Iterable[str] = (),
    copies: Iterable[tuple[str, str]] = (),
    dtype: DTypeLike | None = jnp.float32,
    device: Any = None,
) -> LoadReport:
    """Move the tensors of a checkpoint into a module that was built with shapes only.

    `dtype` is that of the floating tensors, `None` for the file's; `device` is a device or a sharding; for the rest see
    `dragoman.checkpoint.filling.fill`. Tensors named in the report's `fresh` are still without memory.
    """
    expected = shapes_of(part)
    new: dict[str, jax.Array] = {}

    def place(name: str, array: Any) -> None:
        own = expected[name][1]
        target = dtype if jnp.issubdtype(own, jnp.floating) else own
        new[name] = jax.device_put(np.asarray(array, dtype=target, order="C"), device)

    shapes = {name: shape for name, (shape, _) in expected.items()}
    report = filling.fill(
        shapes, place, keymap, file, prefix=prefix, optional=optional, may_be_fresh=may_be_fresh, copies=copies
    )
    update(part, nested(new))
    return report


def their_tensors(
    part: nnx.Module, keymap: KeyMap, prefix: str = "", tensors: Mapping[str, Any] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of a part, or `tensors` in their place, under the names of its checkpoints, in NumPy."""
    own = {name: np.asarray(array) for name, array in (flat(tree_of(part)) if tensors is None else tensors).items()}
    for path, module in nnx.iter_modules(part):
        if isinstance(module, LoraLinear):  # folded in
            layer = ".".join(map(str, path))
            narrow = (own.pop(f"{layer}.lora_{letter}") for letter in "ab")
            own[f"{layer}.weight"] = module.spec.folded(own[f"{layer}.weight"], *narrow)
    return {prefix + name: np.asarray(array, order="C") for name, array in keymap.write(own).items()}
