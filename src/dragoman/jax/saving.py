"""Whole models into folders of the Hugging Face layout, which both backends load."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dragoman.assembly import Files, model_files, saved_prefixes
from dragoman.checkpoint.layout import plan_shards
from dragoman.checkpoint.saving import save_folder
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.jax.bridge import BRIDGE_KEYS
from dragoman.jax.loading import part_tables
from dragoman.jax.weights import their_tensors

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["model_tensors", "save", "weight_files"]

Arrays = dict[str, np.ndarray[Any, Any]]


def model_tensors(model: "FlaxSpeechEncoderDecoderModel") -> Arrays:
    """Return all tensors of a model under the names of its checkpoints."""
    encoder, decoder = model.encoder, model.decoder
    hears, writes = saved_prefixes(model.config)
    return {
        **their_tensors(encoder, part_tables(encoder).keymap(encoder.config), hears),
        **their_tensors(decoder, part_tables(decoder).keymap(decoder.config), writes),
        **their_tensors(model.bridge, BRIDGE_KEYS),
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


def save(model: "FlaxSpeechEncoderDecoderModel", folder: Path, max_shard_size: int | str) -> None:
    """Write configuration, generation options, weights and processing; all of them or none."""
    tensors = weight_files(model_tensors(model), max_shard_size)
    save_folder(folder, {**model_files(model.config, model.generation_config, model.processing), **tensors})
