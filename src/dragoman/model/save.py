"""Parts and whole models into folders of the Hugging Face layout; all files are written or none."""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.keymap import KeyMap
from dragoman.checkpoint.layout import plan_shards
from dragoman.checkpoint.saving import save_folder
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.families import speech_part, text_part
from dragoman.families.composites import saved_composite
from dragoman.generation.inherited import GENERATION_FIELDS
from dragoman.generation.options import GenerationConfig
from dragoman.model.added import added_to_model
from dragoman.model.backend import Backend, JointModel, ModelPart
from dragoman.model.configs import shared_config
from dragoman.model.load import floating_type
from dragoman.model.names import name_tables
from dragoman.model.state import model_sections, unused_tensors

_log = logging.getLogger("dragoman")

Files = dict[str, bytes | Callable[[Path], None]]
"""By file name, the content or a function that writes it."""


def save_model(
    backend: Backend, model: JointModel, tensors: Mapping[str, Any], folder: Path, max_shard_size: int | str
) -> None:
    """Write configuration, generation options, weights and processing.

    Args:
        backend: The framework.
        model: The model.
        tensors: All tensors to write, by our names.
        folder: Made if it does not exist.
        max_shard_size: Bytes of one weight file, or a string like "5GB".
    """
    tell_apart(unloadable(model.config))
    weights = _weight_files(backend, model_tensors(backend, model, tensors), max_shard_size)
    config = model.config.copy(dtype=floating_type(tensors, "", model.config.dtype), name_or_path="")
    for name, part in (("encoder", config.encoder), ("decoder", config.decoder)):
        part.dtype = floating_type(tensors, f"{name}.", part.dtype)
    head = {} if model.ctc_scoring_head is None else model.ctc_scoring_head.files()
    save_folder(folder, {**_model_files(config, model.generation_config, model.processing), **head, **weights})


def unloadable(config: SpeechEncoderDecoderConfig) -> str:
    """Return why `transformers` cannot load a saved model, "" if it can."""
    if shared_config(config) is not None or saved_composite(config) is not None:
        return ""
    if config.fusion is not None:
        return f"it implements no fusion={config.fusion!r}"
    roles = (("encoder", config.encoder, speech_part), ("decoder", config.decoder, text_part))
    wrong = [f"{own.model_type!r} {role}" for role, own, part in roles if part(own).apart(own)]
    return f"it cannot build a model with this {' and this '.join(wrong)}" if wrong else ""


@cache
def tell_apart(reason: str) -> None:
    """Log, once for each reason, that `transformers` cannot load what is saved."""
    if reason:
        _log.warning(
            "`transformers` cannot load the saved model: %s; it fails, or leaves weights random. dragoman loads the "
            "folder with PyTorch and JAX.",
            reason,
        )


def save_part(
    backend: Backend, part: ModelPart, tensors: Mapping[str, Any], folder: Path, max_shard_size: int | str
) -> None:
    """Write configuration and weights of one part alone; the arguments are those of `save_model`."""
    tables = name_tables(part)
    dtype = floating_type(tensors, "", part.config.dtype)
    config = part.config.copy(architectures=[tables.classes[0]], dtype=dtype, name_or_path="").to_json_string().encode()
    theirs = checkpoint_tensors(backend, part, tables.keymap(part.config), tensors)
    save_folder(folder, {"config.json": config, **_weight_files(backend, theirs, max_shard_size)})


def model_tensors(backend: Backend, model: JointModel, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return all tensors of a model, given by our names, under the names of its checkpoints."""
    found: dict[str, Any] = {}
    for section, part in zip(model_sections(model), (model.encoder, model.decoder, model.bridge), strict=True):
        own = {n.removeprefix(section.ours): tensor for n, tensor in tensors.items() if n.startswith(section.ours)}
        renamed = checkpoint_tensors(backend, part, section.keymap, own)
        found |= {section.theirs + name: tensor for name, tensor in renamed.items()}
    composite = saved_composite(model.config)
    found = found if composite is None else composite.keymap.write(found)
    return found | {name: backend.array(tensors[name]) for name in added_to_model(tensors)}


def checkpoint_tensors(backend: Backend, module: Any, keymap: KeyMap, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors of a module, given by our names, under the names of its checkpoints; each LoRA is folded in."""
    own = {name: backend.array(tensor) for name, tensor in tensors.items()}
    for layer, spec in backend.loras(module).items():
        narrow = (own.pop(f"{layer}.lora_{letter}") for letter in "ab")
        own[f"{layer}.weight"] = spec.folded(own[f"{layer}.weight"], *narrow)
    return {**keymap.extended(own).write(own), **unused_tensors(keymap, own)}


def _weight_files(backend: Backend, tensors: Mapping[str, Any], max_shard_size: int | str) -> Files:
    """Return the weight files, and their index if there are several."""
    plan = plan_shards({name: tensor.nbytes for name, tensor in tensors.items()}, max_shard_size)

    def writer(names: tuple[str, ...]) -> Callable[[Path], None]:
        return lambda path: save_safetensors({name: tensors[name] for name in names}, path, backend.framework)

    files: Files = {name: writer(names) for name, names in plan.files.items()}
    if plan.index is not None:
        files["model.safetensors.index.json"] = plan.index_bytes()
    return files


def _model_files(config: SpeechEncoderDecoderConfig, generation: GenerationConfig, processing: Sequence[Any]) -> Files:
    """Return the files besides the weights: configuration, generation options, processing."""
    saved = shared_config(config) or config.copy(architectures=["SpeechEncoderDecoderModel"])
    known = {field.name for field in fields(saved)} - {"forced_bos_token_id", "forced_eos_token_id"}
    # options of `generate` go to their own file: `transformers` 5 refuses a config.json that has them
    about = {name: value for name, value in saved.to_dict().items() if name in known or name not in GENERATION_FIELDS}
    about |= {name: value for name, value in config.special_ids.given().items() if not name.startswith("forced_")}
    composite = saved_composite(config)
    about = about if composite is None else composite.outer(about)
    files: Files = {
        "config.json": (json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(),
        "generation_config.json": generation.to_json_string().encode(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for part in processing:
            part.save_pretrained(scratch)
        files |= {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    return files
