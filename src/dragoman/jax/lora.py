"""LoRA in JAX: linear layers with a narrow product beside them, put in from outside, folded in, saved and loaded.

Axes: width_in, width_out, rank.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

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
from dragoman.jax.net.bridge import BRIDGE_KEYS
from dragoman.jax.net.layers import Linear, LoraLinear
from dragoman.jax.net.tree import Tree, flat, nested, tree_of, update
from dragoman.spec.lora import LoraSpec

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["add", "load", "merge", "save", "trained"]


def layers_of(model: "FlaxSpeechEncoderDecoderModel") -> dict[str, LoraLinear]:
    """Return the layers of the decoder that have a LoRA, by our names."""
    return {name: module for name, module in _linears(model).items() if isinstance(module, LoraLinear)}


def _linears(model: "FlaxSpeechEncoderDecoderModel") -> dict[str, Linear]:
    found = nnx.iter_modules(model.decoder)
    return {".".join(map(str, path)): module for path, module in found if isinstance(module, Linear)}


def trained(params: Tree) -> Tree:
    """Return for each parameter of a model whether it is new: LoRA, cross-attention and bridge.

    For a step of your own, a mask of optimizers that leaves encoder and text model as they are (a `Trainer` has
    `freeze_encoder` and `freeze_decoder`):

        >>> labels = jax.tree.map(lambda new: "new" if new else "old", trained(model.params))
        >>> optimizer = optax.multi_transform({"new": optax.adamw(1e-3), "old": optax.set_to_zero()}, labels)
    """
    return nested({name: is_new(name) for name in flat(params)})


def add(model: "FlaxSpeechEncoderDecoderModel", spec: LoraSpec) -> None:
    """Give layers of the decoder a LoRA, which changes nothing until it is trained.

    `save_pretrained` folds it in; `save` writes it alone. A `Trainer` then leaves the text model as it is; an optimizer
    of your own is told by `trained` what to change.

    Args:
        model: The model.
        spec: Which layers, and how: `targets` are the last words of their names, ours or the checkpoint's ("q_proj",
            "o_proj", "gate_proj", "query", "c_attn", …); those of cross-attention are never meant.

    Raises:
        ConfigError: If there is a LoRA already, or a target does not exist.
    """
    if layers_of(model):
        raise ConfigError("This model has a LoRA already. Fold it in first: model.merge_lora().")
    linears = _linears(model)
    keymap = text_part(model.decoder.config).keymap(model.decoder.config)
    for seed, name in enumerate(lora_targets(linears, spec.targets, keymap)):
        _replace(model.decoder, name, LoraLinear(linears[name], spec, seed))
    model._programs.forget()


def merge(model: "FlaxSpeechEncoderDecoderModel") -> None:
    """Fold the LoRA into the weights of its layers; the results stay the same."""
    for name, layer in layers_of(model).items():
        plain = Linear(*reversed(layer.weight.shape), bias=layer.bias is not None)
        plain.weight.set_value(layer.merged())
        plain.bias = layer.bias
        _replace(model.decoder, name, plain)
    model._programs.forget()


def save(model: "FlaxSpeechEncoderDecoderModel", folder: Path) -> None:
    """Write LoRA, cross-attention and bridge in PEFT's file format; encoder and text model stay where they are.

    Raises:
        ConfigError: If there is no LoRA.
        CheckpointError: If one of its layers is none of its own in the checkpoint's format.
    """
    layers = layers_of(model)
    if not layers:
        raise ConfigError("This model has no LoRA to save; model.add_lora() gives it one.")
    spec = next(iter(layers.values())).spec
    new = {name: np.asarray(array) for name, array in flat(tree_of(model.module)).items() if is_new(name)}
    tensors = to_adapter(new, text_part(model.decoder.config).keymap(model.decoder.config), BRIDGE_KEYS)
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    config = adapter_files(spec, tensors, model.config.name_or_path or model.decoder.config.name_or_path)
    save_folder(folder, {**config, ADAPTER_WEIGHTS: lambda path: save_safetensors(whole, path, "np")})


def load(model: "FlaxSpeechEncoderDecoderModel", folder: Path) -> None:
    """Read what `save` wrote into a model of the same encoder and text model.

    Raises:
        ModelNotFoundError: If there is no adapter.
        CheckpointError: If it is of another kind or of another model.
    """
    spec, keymap = adapter_spec(folder), text_part(model.decoder.config).keymap(model.decoder.config)
    with SafetensorsFile(folder / ADAPTER_WEIGHTS, "np") as file:
        tensors = from_adapter({name: file.read(name) for name in file.keys()}, keymap, BRIDGE_KEYS)  # noqa: SIM118
    add(model, spec)
    own = flat(tree_of(model.module))
    strange = [n for n, t in tensors.items() if n not in own or own[n].shape != t.shape]
    missing = [name for name in own if ".lora_" in name and name not in tensors]
    if strange or missing:
        merge(model)
        raise CheckpointError(
            f"The adapter in {folder} is not of this model: {', '.join((strange + missing)[:5])} "
            f"{'does' if len(strange + missing) == 1 else 'do'} not fit."
        )
    update(model.module, nested({name: jnp.asarray(array, own[name].dtype) for name, array in tensors.items()}))


def _replace(root: nnx.Module, name: str, module: Linear) -> None:
    *path, last = name.split(".")
    owner: Any = root
    for word in path:
        owner = owner[int(word)] if word.isdigit() else getattr(owner, word)
    setattr(owner, last, module)
