"""Compiled programs over a module: each function is compiled once for each shape of its arguments and kept.

None is compiled in silence: the logger "dragoman" names every one, with the shapes that it is for (level INFO).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from dragoman.errors import CheckpointError
from dragoman.jax.net.tree import Tree, flat, merge, nested, tree_of, update, variables

__all__ = ["Programs"]

_log = logging.getLogger("dragoman")

# Arguments of the network that are no arrays.
_STATIC = ("label_smoothing", "frozen", "all_states", "weights")


class Programs:
    """The programs of one model.

    Args:
        module: Its structure is compiled in, its arrays are arguments of every program.
    """

    def __init__(self, module: nnx.Module) -> None:
        self._module = module
        self._variables = variables(module)
        self._structure: Any = None  # of the parameters, once somebody asks
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    def __getstate__(self) -> nnx.Module:
        """Return what a copy or a pickle keeps: it compiles anew."""
        return self._module

    def __setstate__(self, module: nnx.Module) -> None:
        """Begin with a copy of the module."""
        Programs.__init__(self, module)

    @property
    def params(self) -> Tree:
        """All parameters as nested dictionaries."""
        return tree_of(self._variables, nnx.Param)

    @params.setter
    def params(self, tree: Mapping[str, Any]) -> None:
        update(self._module, tree)

    def _checked(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return parameters that the caller passes in, checked for every name."""
        self._structure = self._structure or jax.tree.structure(self.params)
        if jax.tree.structure(params) == self._structure:
            return params
        wanted = {name for name, leaf in self._variables.items() if isinstance(leaf, nnx.Param)}
        given = flat(params).keys() if isinstance(params, Mapping) else set()
        if given == wanted:  # nested in another kind of mapping
            return params
        raise CheckpointError(
            f"`params` must be a tree like `model.params`, but of its {len(wanted)} tensors "
            f"{len(wanted - given)} are missing ({', '.join(sorted(wanted - given)[:3])}) and "
            f"{len(given - wanted)} are of another model ({', '.join(sorted(given - wanted)[:3])})."
        )

    def forget(self) -> None:
        """Compile anew from now on, because the structure of the module has changed."""
        self._compiled.clear()
        self._structure = None
        self._variables = variables(self._module)

    def of(self, function: Callable[..., Any], static: tuple[str, ...] = _STATIC) -> Callable[..., Any]:
        """Return `function(module, …)` as a compiled `(params or None, …)`.

        Args:
            function: Takes such a module and arrays; one of a file's top level or a method, so that it is met again.
            static: Names of the arguments that are no arrays. All of them must be given by name.
        """
        if function not in self._compiled:
            graph = nnx.graphdef(self._module)

            def run(params: Tree, buffers: Tree, *args: Any, **kwargs: Any) -> Any:
                # This runs when JAX traces, which is when it is about to compile.
                _log.info("JAX compiles %s for %s.", function.__name__, _shapes((args, kwargs)))
                return function(merge(graph, nested({**flat(buffers), **flat(params)})), *args, **kwargs)

            self._compiled[function] = jax.jit(run, static_argnames=static)
        compiled = self._compiled[function]

        def call(params: Mapping[str, Any] | None, *args: Any, **kwargs: Any) -> Any:
            own = self.params if params is None else self._checked(params)
            return compiled(own, tree_of(self._variables, nnx.BatchStat), *args, **kwargs)

        return call


def _shapes(arguments: Any) -> str:
    """Return the different shapes of some arguments, the first few of them: caches and memories have many."""
    found = dict.fromkeys(str(list(leaf.shape)) for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array))
    return ", ".join(list(found)[:6])
