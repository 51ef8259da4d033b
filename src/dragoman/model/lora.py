"""LoRA of a whole model: added from outside to linear layers of the text model, folded in, saved and loaded."""

from pathlib import Path
from typing import Any

from dragoman.checkpoint.lora import (
    ADAPTER_WEIGHTS,
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
from dragoman.model.names import BRIDGE_KEYS, keymap_of
from dragoman.spec.lora import LoraSpec


def add_lora(backend: Backend, model: JointModel, spec: LoraSpec) -> None:
    """Give layers of the decoder a LoRA, which changes nothing until it is trained.

    `save_pretrained` folds it in; `save_adapter` writes it alone.

    Raises:
        ConfigError: If there is a LoRA already, or a target does not exist.
    """
    for seed, layer in enumerate(_targets(backend, model, spec)):
        backend.add_lora(model.decoder, layer, spec, seed)


def merge_lora(backend: Backend, model: JointModel) -> None:
    """Fold the LoRA into the weights of its layers; the outputs stay the same."""
    for layer in backend.loras(model.decoder):
        backend.merge_lora(model.decoder, layer)


def save_adapter(backend: Backend, model: JointModel, folder: Path) -> None:
    """Write LoRA, cross-attention and bridge in PEFT's file format; the other tensors are not written.

    Raises:
        ConfigError: If there is no LoRA.
        CheckpointError: If the checkpoint's format stores one of its layers fused or transposed.
    """
    layers = backend.loras(model.decoder)
    if not layers:
        raise ConfigError("This model has no LoRA to save; model.add_lora() gives it one.")
    new = {name: backend.array(tensor) for name, tensor in _tensors(backend, model).items() if is_new(name)}
    tensors = to_adapter(new, keymap_of(model.decoder), BRIDGE_KEYS)
    base = model.config.name_or_path or model.decoder.config.name_or_path
    config = adapter_files(next(iter(layers.values())), tensors, base)
    save_folder(folder, {**config, ADAPTER_WEIGHTS: lambda path: save_safetensors(tensors, path, backend.framework)})


def load_adapter(backend: Backend, model: JointModel, folder: Path) -> None:
    """Load what `save_adapter` wrote into a model of the same encoder and text model.

    Raises:
        ModelNotFoundError: If there is no adapter.
        ConfigError: If there is a LoRA already, or a target does not exist.
        CheckpointError: If it is of another kind or of another model; the model is then unchanged.
    """
    spec = adapter_spec(folder)
    with SafetensorsFile(folder / ADAPTER_WEIGHTS, backend.framework, check_finite=True) as file:
        given = {name: file.read(name) for name in file.keys()}  # noqa: SIM118
    tensors = from_adapter(given, keymap_of(model.decoder), BRIDGE_KEYS)
    shapes = {name: tuple(tensor.shape) for name, tensor in _tensors(backend, model).items()}
    for layer in _targets(backend, model, spec):
        width_out, width_in = shapes[f"decoder.{layer}.weight"]
        shapes[f"decoder.{layer}.lora_a"] = spec.rank, width_in
        shapes[f"decoder.{layer}.lora_b"] = width_out, spec.rank
    wrong = [name for name, tensor in tensors.items() if shapes.get(name) != tuple(tensor.shape)]
    wrong += [name for name in shapes if ".lora_" in name and name not in tensors]
    if wrong:
        raise CheckpointError(
            f"The adapter in {folder} is not of this model: {', '.join(wrong[:5])} "
            f"{'does' if len(wrong) == 1 else 'do'} not fit."
        )
    add_lora(backend, model, spec)
    for prefix, module in ("decoder.", model.decoder), ("bridge.", model.bridge):
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        backend.assign(module, own)


def _targets(backend: Backend, model: JointModel, spec: LoraSpec) -> list[str]:
    if backend.loras(model.decoder):
        raise ConfigError("This model has a LoRA already. Fold it in first: model.merge_lora().")
    return lora_targets(backend.linears(model.decoder), spec.targets, keymap_of(model.decoder))


def _tensors(backend: Backend, model: JointModel) -> dict[str, Any]:
    """Return the tensors of decoder and bridge by our names."""
    modules = {"decoder.": model.decoder, "bridge.": model.bridge}
    return {p + name: tensor for p, module in modules.items() for name, tensor in backend.tensors(module).items()}
