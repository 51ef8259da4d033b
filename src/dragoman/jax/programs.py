"""Compiled programs over a module: a function is compiled once for each shape of its arguments.

The logger "dragoman" names each program and its shapes when it is compiled (level INFO).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dragoman.jax.arrays import is_traced
from dragoman.jax.forks import mind_forks
from dragoman.jax.net.tree import Tree, cast, fitting, flat, merge, nested, tree_of, update, variables
from dragoman.spec import Padding

_log = logging.getLogger("dragoman")

# Arguments of the network that are not arrays.
STATIC = ("label_smoothing", "frozen", "all_states", "weights")


class Programs:
    """The programs of one model.

    Args:
        module: Its structure is a constant of each program, its arrays are arguments.
        dtype: Type to compute in, to which programs cast the parameters; `None` for their own.
    """

    def __init__(self, module: nnx.Module, dtype: Any = None) -> None:
        mind_forks()
        self._module, self._dtype = module, dtype
        self._traced: Tree | None = None  # parameters assigned while a program is compiled
        self.forget()

    def __getstate__(self) -> tuple[nnx.Module, Any]:
        """Return what a copy or a pickle keeps; a copy compiles its own programs."""
        return self._module, self._dtype

    def __setstate__(self, state: tuple[nnx.Module, Any]) -> None:
        """Take the module of the copy."""
        Programs.__init__(self, *state)

    def forget(self) -> None:
        """Drop all programs, after the structure of the module has changed."""
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._variables = variables(self._module)
        self._places = [
            (vars(module), name, value)
            for _, module in nnx.iter_modules(self._module)
            for name, value in vars(module).items()
            if isinstance(value, nnx.Module | nnx.Variable | Padding)
        ]

    def _follow(self) -> None:
        if any(owner.get(name) is not value for owner, name, value in self._places):  # one was replaced
            self.forget()

    @property
    def dtype(self) -> Any:
        """Type to compute in; `None` for that of the parameters."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self._dtype = dtype
        self.forget()

    @property
    def params(self) -> Tree:
        """All parameters as nested dictionaries.

        Those that were assigned inside `jax.jit` or `jax.pmap`, as code for Flax does, are the model's until its
        program is compiled; then the model has its own again.
        """
        self._follow()
        if self._traced is not None:
            try:
                jnp.negative(next(iter(flat(self._traced).values())))
            except jax.errors.UnexpectedTracerError:  # of a program that is complete
                self._traced = None
        return tree_of(self._variables, nnx.Param) if self._traced is None else self._traced

    @params.setter
    def params(self, tree: Mapping[str, Any]) -> None:
        if is_traced(tree):
            self._traced = nested({**flat(tree_of(self._variables, nnx.Param)), **fitting(self._variables, tree)})
        else:
            self._traced = None
            update(self._module, tree)

    def names(self) -> list[str]:
        """Return the names of all parameters."""
        return [name for name, leaf in self._variables.items() if isinstance(leaf, nnx.Param)]

    def of(
        self, function: Callable[..., Any], static: tuple[str, ...] = STATIC, own: Callable[[Any], Tree] = dict
    ) -> Callable[..., Any]:
        """Return `function(module, …)` as a compiled `(params or None, …)`.

        Args:
            function: Takes the module and arrays. A method or a function of a module's top level, which is the same
                object at each call.
            static: Names of the arguments that are not arrays; they must be passed by name.
            own: Returns the caller's parameters under our names; called while JAX traces.
        """
        mind_forks()
        self._follow()
        if function not in self._compiled:
            graph = nnx.graphdef(self._module)

            def run(params: Tree, buffers: Tree, *args: Any, **kwargs: Any) -> Any:
                # runs while JAX traces, just before it compiles
                _log.info("JAX compiles %s for %s.", function.__name__, _shapes((args, kwargs)))
                params = own(params) if self._dtype is None else cast(own(params), self._dtype)
                return function(merge(graph, nested({**flat(buffers), **flat(params)})), *args, **kwargs)

            self._compiled[function] = jax.jit(run, static_argnames=static)
        compiled = self._compiled[function]

        def call(params: Mapping[str, Any] | None, *args: Any, **kwargs: Any) -> Any:
            params = self.params if params is None else params
            return compiled(params, tree_of(self._variables, nnx.BatchStat), *args, **kwargs)

        return call


def _shapes(arguments: Any) -> str:
    """Return the first few distinct shapes of the arguments."""
    found = dict.fromkeys(str(list(leaf.shape)) for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array))
    return ", ".join(list(found)[:6])
