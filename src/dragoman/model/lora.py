"""LoRA of a whole model: added from outside to linear layers of the text model, folded in, saved and loaded."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.checkpoint.keymap import KeyMap
from dragoman.checkpoint.lora import (
    ADAPTER_WEIGHTS,
    ALL_LINEAR,
    adapter_files,
    adapter_spec,
    from_adapter,
    is_new,
    lora_targets,
    to_adapter,
)
from dragoman.checkpoint.saving import save_folder
from dragoman.checkpoint.tensors import SafetensorsFile, save_safetensors
from dragoman.errors import CheckpointError, ConfigError
from dragoman.model.backend import Backend, JointModel
from dragoman.model.names import bridge_keys, keymap_of
from dragoman.spec.lora import LoraSpec

_TABLE = "decoder.embed.tokens.weight"
_BY_TOKEN = (_TABLE, "decoder.head.weight", "decoder.head.bias")
_log = logging.getLogger("dragoman")


def add_lora(backend: Backend, model: JointModel, spec: LoraSpec, *, encoder: bool = False) -> None:
    """Give layers of the decoder, and if asked of the encoder, a LoRA, which changes nothing until it is trained.

    `save_pretrained` folds it in; `save_adapter` writes it alone.

    Raises:
        ConfigError: If there is a LoRA already, or a target does not exist.
    """
    _check_plain(backend, model)
    parts = {"decoder.": model.decoder, **({"encoder.": model.encoder} if encoder else {})}
    layers = lora_targets({p: backend.linears(part) for p, part in parts.items()}, spec.targets, _keymaps(model))
    model.base_marks = _marks(backend, model)
    _add(backend, model, layers, spec)


def merge_lora(backend: Backend, model: JointModel) -> None:
    """Fold the LoRA into the weights of its layers; the outputs stay the same."""
    for module in _modules(model).values():
        for layer in backend.loras(module):
            backend.merge_lora(module, layer)


def save_adapter(backend: Backend, model: JointModel, folder: Path) -> None:
    """Write LoRA, cross-attention and bridge, and what else is not in the base, in PEFT's file format.

    Raises:
        ConfigError: If there is no LoRA.
        CheckpointError: If the checkpoint's format stores one of its layers fused or transposed.
    """
    specs = _specs(backend, model)
    if not specs:
        raise ConfigError("This model has no LoRA to save; model.add_lora() gives it one.")
    names, keymaps = _to_save(backend, model), _keymaps(model)
    new = {name: backend.array(tensor) for name, tensor in _tensors(backend, model).items() if name in names}
    tensors = to_adapter(new, keymaps)
    besides = sorted(name for name in names if not is_new(name))
    if besides:
        _log.info("The adapter also holds %d tensors that are not in its base: %s", len(besides), ", ".join(besides))
    if added := model.added_names():
        _log.warning(
            "The adapter leaves out %s, of modules that a subclass added, which a base model lacks. Keep them with "
            "model.save_pretrained(folder), which folds the LoRA in, or with torch.save(model.state_dict(), path).",
            ", ".join(added),
        )
    base = model.config.name_or_path or model.decoder.config.name_or_path
    config = adapter_files(specs[0], tensors, base)
    save_folder(folder, {**config, ADAPTER_WEIGHTS: lambda path: save_safetensors(tensors, path, backend.framework)})


def load_adapter(backend: Backend, model: JointModel, folder: Path) -> None:
    """Load what `save_adapter` or PEFT wrote into a model of the same encoder and text model.

    Raises:
        ModelNotFoundError: If there is no adapter.
        ConfigError: If there is a LoRA already, or a target does not exist.
        CheckpointError: If it is of another kind or of another model; the model is then unchanged.
    """
    _check_plain(backend, model)
    spec = adapter_spec(folder)
    with SafetensorsFile(folder / ADAPTER_WEIGHTS, backend.framework, check_finite=True) as file:
        given = {name: file.read(name) for name in file.keys()}  # noqa: SIM118
    shapes = {name: tuple(tensor.shape) for name, tensor in _tensors(backend, model).items()}
    tensors = from_adapter(given, _keymaps(model), shapes)
    marks = _marks(backend, model)
    vocab_size = _vocab_size(model, tensors)
    linears = {p + name for p, module in _modules(model).items() for name in backend.linears(module)}
    layers = sorted({name.rpartition(".")[0] for name in tensors if ".lora_" in name} & linears)
    for layer in layers:
        width_out, width_in = shapes[f"{layer}.weight"]
        shapes[f"{layer}.lora_a"] = spec.rank, width_in
        shapes[f"{layer}.lora_b"] = width_out, spec.rank
    shapes |= {name: (vocab_size, *shapes[name][1:]) for name in _BY_TOKEN if name in shapes}
    wrong = [name for name, tensor in tensors.items() if shapes.get(name) != tuple(tensor.shape)]
    wrong += [name for name in shapes if ".lora_" in name and name not in tensors]
    wrong += [layer for layer in layers if not _is_target(layer, _keymaps(model), spec)]
    if wrong:
        raise CheckpointError(
            f"The adapter in {folder} is not of this model: {', '.join(wrong[:5])} "
            f"{'does' if len(wrong) == 1 else 'do'} not fit."
        )
    _add(backend, model, layers, spec)
    model.base_marks = marks
    if vocab_size != model.decoder.spec.vocab_size:
        backend.resize(model.decoder, vocab_size)
    for prefix, module in _modules(model).items():
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        backend.assign(module, own)


def _add(backend: Backend, model: JointModel, layers: Sequence[str], spec: LoraSpec) -> None:
    modules = _modules(model)
    for seed, layer in enumerate(layers):
        part, _, own = layer.partition(".")
        backend.add_lora(modules[f"{part}."], own, spec, seed)


def _is_target(layer: str, keymaps: Mapping[str, KeyMap], spec: LoraSpec) -> bool:
    """Return whether an adapter's configuration names a layer, by our name or that of checkpoints."""
    part, _, own = layer.partition(".")
    theirs = keymaps[f"{part}."].theirs(f"{own}.weight").removesuffix(".weight")
    ends = tuple(f".{target}" for target in spec.targets)
    return ALL_LINEAR in spec.targets or f".{layer}".endswith(ends) or f".{theirs}".endswith(ends)


def _specs(backend: Backend, model: JointModel) -> list[LoraSpec]:
    return [spec for module in _modules(model).values() for spec in backend.loras(module).values()]


def _check_plain(backend: Backend, model: JointModel) -> None:
    if _specs(backend, model):
        raise ConfigError("This model has a LoRA already. Fold it in first: model.merge_lora().")


def _modules(model: JointModel) -> dict[str, Any]:
    """Return the modules of a model by the prefixes of our names."""
    return {"encoder.": model.encoder, "decoder.": model.decoder, "bridge.": model.bridge}


def _keymaps(model: JointModel) -> dict[str, KeyMap]:
    return {
        "encoder.": keymap_of(model.encoder),
        "decoder.": keymap_of(model.decoder),
        "bridge.": bridge_keys(model.config),
    }


def _tensors(backend: Backend, model: JointModel) -> dict[str, Any]:
    """Return all tensors by our names."""
    return {
        p + name: tensor for p, module in _modules(model).items() for name, tensor in backend.tensors(module).items()
    }


def _vocab_size(model: JointModel, tensors: Mapping[str, Any]) -> int:
    """Return the size of the vocabulary that an adapter was trained with."""
    table = tensors.get(_TABLE)
    return int(model.decoder.spec.vocab_size if table is None or table.ndim != 2 else table.shape[0])


def _marks(backend: Backend, model: JointModel) -> dict[str, tuple[int, ...]]:
    """Return a short mark of each tensor, another one after each change."""
    return {name: (*tensor.shape, backend.mark(tensor)) for name, tensor in _tensors(backend, model).items()}


def _to_save(backend: Backend, model: JointModel) -> set[str]:
    """Return the tensors that are not those of the base model: new, resized, or changed since the LoRA was added.

    Where a checkpoint fuses one with others, these are returned too.
    """
    marks = _marks(backend, model)
    changed = {name for name, mark in marks.items() if is_new(name) or model.base_marks.get(name) != mark}
    changed |= {name for name in model.load_report.fresh if name in marks}
    if model.decoder.resized:
        changed |= {name for name in _BY_TOKEN if name in marks}
    found = set(changed)
    for prefix, keymap in _keymaps(model).items():
        for name in changed:
            own = name.removeprefix(prefix)
            if name.startswith(prefix) and not own.rpartition(".")[2].startswith("lora_"):
                found |= {prefix + part for part in keymap.ours(keymap.theirs(own))}
    return found
