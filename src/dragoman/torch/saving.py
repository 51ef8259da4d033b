"""Whole models into folders of the Hugging Face layout."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from dragoman.checkpoint.layout import plan_shards
from dragoman.checkpoint.saving import save_folder
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.torch.bridge import BRIDGE_KEYS
from dragoman.torch.loading import part_tables
from dragoman.torch.weights import their_tensors

if TYPE_CHECKING:
    from dragoman.torch.model import SpeechEncoderDecoderModel

__all__ = ["model_tensors", "save", "weight_files"]

Files = dict[str, bytes | Callable[[Path], None]]


def model_tensors(model: "SpeechEncoderDecoderModel") -> dict[str, Tensor]:
    """Return all tensors of a model under the names of its checkpoints."""
    encoder, decoder = model.encoder, model.decoder
    return {
        **their_tensors(encoder, part_tables(encoder).keymap(encoder.config), "encoder."),
        **their_tensors(decoder, part_tables(decoder).keymap(decoder.config), "decoder."),
        **their_tensors(model.bridge, BRIDGE_KEYS),
    }


def weight_files(tensors: dict[str, Tensor], max_shard_size: int | str) -> Files:
    """Return the weight files, and their index if there are several."""
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    plan = plan_shards(sizes, max_shard_size)

    def writer(names: tuple[str, ...]) -> Callable[[Path], None]:
        return lambda path: save_safetensors({n: tensors[n] for n in names}, path, "pt", {"format": "pt"})

    files: Files = {name: writer(names) for name, names in plan.files.items()}
    if plan.index is not None:
        files["model.safetensors.index.json"] = plan.index_bytes()
    return files


def save(model: "SpeechEncoderDecoderModel", folder: Path, max_shard_size: int | str) -> None:
    """Write configuration, generation options, weights and processing; all of them or none."""
    config = {**model.config.to_dict(), "architectures": ["SpeechEncoderDecoderModel"]}
    config = {name: value for name, value in config.items() if name not in model.generation_config.to_dict()}
    ids = {name: value for name, value in vars(model.config.special_ids).items() if value is not None}
    config |= {name: value for name, value in ids.items() if not name.startswith("forced_")}
    options = {**model.generation_config.to_dict(), **ids}
    files: Files = {
        "config.json": (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        "generation_config.json": (json.dumps(options, indent=2, sort_keys=True) + "\n").encode(),
        **weight_files(model_tensors(model), max_shard_size),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for part in model.processing:
            part.save_pretrained(scratch)
        files |= {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    save_folder(folder, files)
