"""A model over several devices: batches are split over the mesh's "data" axis, matrices over its "model" axis.

XLA inserts the communication. The layout is Megatron's (https://arxiv.org/abs/1909.08053, section 3): layers that widen
are split by outputs, layers that narrow by inputs, so that a block communicates twice.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from dragoman.checkpoint.keymap import matches_any
from dragoman.jax.masks import check_own
from dragoman.jax.net.tree import Tree, flat, nested
from dragoman.jax.train import Batch

_BY_OUTPUTS = (
    "*.q_proj.weight", "*.k_proj.weight", "*.v_proj.weight", "*.ffn.in_proj.weight",
    "*.q_proj.bias", "*.k_proj.bias", "*.v_proj.bias", "*.ffn.in_proj.bias",
    "*.embed.tokens.weight", "*.head.weight", "*.head.bias",
)  # fmt: skip
_BY_INPUTS = ("*.self_attn.out_proj.weight", "*.cross_attn.out_proj.weight", "*.ffn.out_proj.weight")


def param_shardings(params: Mapping[str, Any], mesh: Mesh) -> Tree:
    """Return the sharding of each parameter, a tree like `params`, which is `model.tree`.

    Norms, convolutions, positions and tensors that the mesh's "model" axis does not divide are replicated.

    Raises:
        ConfigError: If `params` have the names of Flax models.
    """
    check_own(params, "param_shardings")
    return nested({name: NamedSharding(mesh, _spec(name, array, mesh)) for name, array in flat(params).items()})


def _split(*axes: str | None) -> PartitionSpec:
    """Return a layout: for each axis of a tensor the axis of the mesh that it is split over."""
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]


def _spec(name: str, array: Array, mesh: Mesh) -> PartitionSpec:
    parts = mesh.shape.get("model", 1)
    if parts > 1 and matches_any(_BY_OUTPUTS, name) and array.shape[0] % parts == 0:
        return _split("model")
    if parts > 1 and matches_any(_BY_INPUTS, name) and array.shape[1] % parts == 0:
        return _split(None, "model")
    return _split()


def place_params(params: Mapping[str, Any], mesh: Mesh) -> Tree:
    """Distribute parameters over a mesh; see `param_shardings`."""
    placed: Tree = jax.tree.map(jax.device_put, dict(params), param_shardings(params, mesh))
    return placed


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of the arrays of a `Batch`: rows, their second axis, over the mesh's "data" axis."""
    return NamedSharding(mesh, _split(None, "data"))


def place_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Distribute a batch over a mesh, whose "data" axis must divide its rows."""
    placed: Batch = jax.tree.map(lambda array: jax.device_put(array, batch_sharding(mesh)), batch)
    return placed
