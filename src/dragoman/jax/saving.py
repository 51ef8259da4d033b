"""Whole models into folders of the Hugging Face layout, which both backends load."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx

from dragoman.checkpoint.layout import plan_shards
from dragoman.checkpoint.options import tensors_to_save
from dragoman.checkpoint.saving import save_folder
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.jax.loading import part_tables
from dragoman.jax.net.bridge import BRIDGE_KEYS
from dragoman.jax.net.tree import flat, tree_of
from dragoman.jax.weights import their_tensors
from dragoman.model.assembly import Files, model_files, saved_prefixes

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["model_tensors", "save", "weight_files"]

Arrays = dict[str, np.ndarray[Any, Any]]


def model_tensors(model: "FlaxSpeechEncoderDecoderModel", params: Mapping[str, Any] | None = None) -> Arrays:
    """Return all tensors of a model, with `params` in place of its own, under the names of its checkpoints."""
    encoder, decoder = model.encoder, model.decoder
    given = tensors_to_save(flat(model.params), None if params is None else flat(params), "params")

    def own(part: nnx.Module, prefix: str) -> dict[str, Any]:
        return {name: given.get(prefix + name, array) for name, array in flat(tree_of(part)).items()}

    hears, writes = saved_prefixes(model.config)
    return {
        **their_tensors(encoder, part_tables(encoder).keymap(encoder.config), hears, own(encoder, "encoder.")),
        **their_tensors(decoder, part_tables(decoder).keymap(decoder.config), writes, own(decoder, "decoder.")),
        **their_tensors(model.bridge, BRIDGE_KEYS, "", own(model.bridge, "bridge.")),
    }


def weight_files(tensors: Arrays, max_shard_size: int | str) -> Files:
    """Return the weight files, and their index if there are several."""
    plan = plan_shards({name: array.nbytes for name, array in tensors.items()}, max_shard_size)

    def writer(names: tuple[str, ...]) -> Callable[[Path], None]:
        return lambda path: save_safetensors({n: tensors[n] for n in names}, path, "np")

    files: Files = {name: writer(names) for name, names in plan.files.items()}
    if plan.index is not None:
        files["model.safetensors.index.json"] = plan.index_bytes()
    return files


def save(
    model: "FlaxSpeechEncoderDecoderModel",
    folder: Path,
    max_shard_size: int | str,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Write configuration, generation options, weights and processing; all of them or none."""
    tensors = weight_files(model_tensors(model, params), max_shard_size)
    save_folder(folder, {**model_files(model.config, model.generation_config, model.processing), **tensors})
