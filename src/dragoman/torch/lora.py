"""LoRA in PyTorch: linear layers with a narrow product beside them, put in from outside, folded in, saved and loaded.

Axes: width_in, width_out, rank.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

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
from dragoman.families import text_part
from dragoman.spec.lora import LoraSpec
from dragoman.torch.net.bridge import BRIDGE_KEYS
from dragoman.torch.net.layers import Linear, LoraLinear

if TYPE_CHECKING:
    from dragoman.torch.model import SpeechEncoderDecoderModel

__all__ = ["add", "load", "merge", "save"]


def layers_of(model: "SpeechEncoderDecoderModel") -> dict[str, LoraLinear]:
    """Return the layers of the decoder that have a LoRA, by our names."""
    return {name: module for name, module in model.decoder.named_modules() if isinstance(module, LoraLinear)}


def add(model: "SpeechEncoderDecoderModel", spec: LoraSpec) -> None:
    """Give layers of the decoder a LoRA, which changes nothing until it is trained, and freeze the text model.

    `save_pretrained` folds it in; `save` writes it alone.

    Args:
        model: The model.
        spec: Which layers, and how: `targets` are the last words of their names, ours or the checkpoint's ("q_proj",
            "o_proj", "gate_proj", "query", "c_attn", …); those of cross-attention are never meant.

    Raises:
        ConfigError: If there is a LoRA already, or a target does not exist.
    """
    if layers_of(model):
        raise ConfigError("This model has a LoRA already. Fold it in first: model.merge_lora().")
    linears = {name: module for name, module in model.decoder.named_modules() if isinstance(module, Linear)}
    keymap = text_part(model.decoder.config).keymap(model.decoder.config)
    for name in lora_targets(linears, spec.targets, keymap):
        _replace(model.decoder, name, LoraLinear(linears[name], spec))
    model.freeze_decoder()


def merge(model: "SpeechEncoderDecoderModel") -> None:
    """Fold the LoRA into the weights of its layers, which stay frozen; the results stay the same."""
    for name, layer in layers_of(model).items():
        with torch.device("meta"):
            plain = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight, plain.bias = nn.Parameter(layer.merged().detach(), requires_grad=False), layer.bias
        _replace(model.decoder, name, plain)


def save(model: "SpeechEncoderDecoderModel", folder: Path) -> None:
    """Write LoRA, cross-attention and bridge in PEFT's file format; encoder and text model stay where they are.

    Raises:
        ConfigError: If there is no LoRA.
        CheckpointError: If one of its layers is none of its own in the checkpoint's format.
    """
    layers = layers_of(model)
    if not layers:
        raise ConfigError("This model has no LoRA to save; model.add_lora() gives it one.")
    spec = next(iter(layers.values())).spec
    new = {name: tensor for name, tensor in model.state_dict().items() if is_new(name)}
    tensors = to_adapter(new, text_part(model.decoder.config).keymap(model.decoder.config), BRIDGE_KEYS)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    config = adapter_files(spec, tensors, model.config.name_or_path or model.decoder.config.name_or_path)
    save_folder(folder, {**config, ADAPTER_WEIGHTS: lambda path: save_safetensors(whole, path, "pt")})


def load(model: "SpeechEncoderDecoderModel", folder: Path) -> None:
    """Read what `save` wrote into a model of the same encoder and text model.

    Raises:
        ModelNotFoundError: If there is no adapter.
        CheckpointError: If it is of another kind or of another model.
    """
    spec, keymap = adapter_spec(folder), text_part(model.decoder.config).keymap(model.decoder.config)
    with SafetensorsFile(folder / ADAPTER_WEIGHTS, "pt") as file:
        tensors = from_adapter({name: file.read(name) for name in file.keys()}, keymap, BRIDGE_KEYS)  # noqa: SIM118
    add(model, spec)
    own = model.state_dict()
    strange = [n for n, t in tensors.items() if n not in own or own[n].shape != t.shape]
    missing = [name for name in own if ".lora_" in name and name not in tensors]
    if strange or missing:
        merge(model)
        raise CheckpointError(
            f"The adapter in {folder} is not of this model: {', '.join((strange + missing)[:5])} "
            f"{'does' if len(strange + missing) == 1 else 'do'} not fit."
        )
    model.load_state_dict(tensors, strict=False)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, own = name.rpartition(".")
    module.train(root.training)
    setattr(root.get_submodule(owner), own, module)
