"""Parameters as a tree: nested dictionaries of arrays, which optax, `jax.grad` and `jax.tree` take.

`{"stack": {"layers": {"0": {"self_attn": …}}}}`: the path of a leaf, joined by dots, is the tensor's name in the twin.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import nnx

from dragoman.errors import CheckpointError, did_you_mean

Tree = dict[str, Any]
Module = TypeVar("Module", bound=nnx.Module)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def nested(leaves: Mapping[str, Any]) -> Tree:
    """Return the tree of leaves with dotted names, the inverse of `flat`."""
    tree: Tree = {}
    for name, value in leaves.items():
        *path, last = name.split(".")
        branch = tree
        for word in path:
            branch = branch.setdefault(word, {})
        branch[last] = value
    return tree


def cast(tree: Mapping[str, Any], dtype: Any, mask: Mapping[str, Any] | None = None) -> Tree:
    """Return a tree whose floating-point leaves are of a type, those with `True` in `mask` if there is one."""
    chosen = None if mask is None else flat(mask)

    def converted(name: str, leaf: Any) -> Any:
        kept = (chosen is not None and not chosen[name]) or not jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf if kept else leaf.astype(dtype)

    return nested({name: converted(name, leaf) for name, leaf in flat(tree).items()})


def variables(module: nnx.Module) -> dict[str, nnx.Variable[Any]]:
    """Return the variables of a module by their dotted names, sorted."""
    found = {".".join(map(str, path)): leaf for path, leaf in nnx.iter_graph(module) if isinstance(leaf, nnx.Variable)}
    return dict(sorted(found.items()))


def tree_of(module: nnx.Module | Mapping[str, nnx.Variable[Any]], kind: type[nnx.Variable[Any]] = nnx.Variable) -> Tree:
    """Return the arrays of a module (or of its `variables`), or those of one `kind` of variable."""
    found = variables(module) if isinstance(module, nnx.Module) else module
    return nested({name: leaf[...] for name, leaf in found.items() if isinstance(leaf, kind)})


def update(module: nnx.Module, tree: Mapping[str, Any]) -> None:
    """Put the arrays of a tree into a module; those that the tree leaves out stay.

    Raises:
        CheckpointError: If the module has no such tensor, or one of another shape.
    """
    own = variables(module)
    for name, array in fitting(own, tree).items():
        own[name].set_value(array)


def fitting(own: Mapping[str, nnx.Variable[Any]], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of a tree by name, which must fit a module with these `variables`.

    Raises:
        CheckpointError: If it has no such tensor, or one of another shape.
    """
    found = flat(tree)
    for name, array in found.items():
        if name not in own:
            raise CheckpointError(f"The model has no tensor {name!r}.{did_you_mean(name, own)}")
        if tuple(array.shape) != tuple(own[name].shape):
            raise CheckpointError(
                f"The tensor {name!r} must have the shape {list(own[name].shape)}, but has {list(array.shape)}."
            )
    return found


def merge(graph: nnx.GraphDef[Module], tree: Mapping[str, Any]) -> Module:
    """Return a module of the given structure that holds the arrays of a tree; for use inside `jit`."""
    return nnx.merge(graph, _numbered(tree))


def _numbered(tree: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the tree as nnx has it: the items of lists under numbers."""
    return {
        int(name) if name.isdigit() else name: _numbered(value) if isinstance(value, Mapping) else value
        for name, value in tree.items()
    }
