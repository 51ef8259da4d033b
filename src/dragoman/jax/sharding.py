"""A model over many devices by annotation: batches split over the mesh's "data" axis, matrices over its "model" axis.

XLA puts the communication in. The layout is Megatron's (https://arxiv.org/abs/1909.08053, section 3): what widens is
cut by its outputs, what narrows by its inputs, so that a block exchanges numbers twice.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from dragoman.checkpoint.keymap import matches_any
from dragoman.jax.net.tree import Tree, flat, nested
from dragoman.jax.train import Batch

__all__ = ["batch_sharding", "param_shardings", "place_batch", "place_params"]

_BY_OUTPUTS = (
    "*.q_proj.weight", "*.k_proj.weight", "*.v_proj.weight", "*.ffn.in_proj.weight",
    "*.q_proj.bias", "*.k_proj.bias", "*.v_proj.bias", "*.ffn.in_proj.bias",
    "*.embed.tokens.weight", "*.head.weight", "*.head.bias",
)  # fmt: skip
_BY_INPUTS = ("*.self_attn.out_proj.weight", "*.cross_attn.out_proj.weight", "*.ffn.out_proj.weight")


def param_shardings(params: Mapping[str, Any], mesh: Mesh) -> Tree:
    """Return where each parameter goes: a tree like `params`.

    A tensor that the mesh's "model" axis does not divide is on every device, as are those that no matrix product needs
    in parts (norms, convolutions, positions).
    """
    return nested({name: NamedSharding(mesh, _spec(name, array, mesh)) for name, array in flat(params).items()})


def _cut(*axes: str | None) -> PartitionSpec:
    """Return a layout: for each axis of a tensor the axis of the mesh that it is cut over."""
    return PartitionSpec(*axes)  # type: ignore[no-untyped-call]


def _spec(name: str, array: Array, mesh: Mesh) -> PartitionSpec:
    parts = mesh.shape.get("model", 1)
    if parts > 1 and matches_any(_BY_OUTPUTS, name) and array.shape[0] % parts == 0:
        return _cut("model")
    if parts > 1 and matches_any(_BY_INPUTS, name) and array.shape[1] % parts == 0:
        return _cut(None, "model")
    return _cut()


def place_params(params: Mapping[str, Any], mesh: Mesh) -> Tree:
    """Put parameters where `param_shardings` says."""
    placed: Tree = jax.tree.map(jax.device_put, dict(params), param_shardings(params, mesh))
    return placed


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return where the arrays of a `Batch` go: rows, their second axis, over the mesh's "data" axis."""
    return NamedSharding(mesh, _cut(None, "data"))


def place_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Put a batch where `batch_sharding` says; the "data" axis must divide its rows."""
    placed: Batch = jax.tree.map(lambda array: jax.device_put(array, batch_sharding(mesh)), batch)
    return placed
