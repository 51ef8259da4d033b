"""LoRA adapters in PEFT's file format: adapter_config.json and adapter_model.safetensors.

Beside the LoRA the file holds, whole, what the text model was given to hear: cross-attention and bridge, PEFT's
`modules_to_save`. In a model our names begin with "decoder." or "bridge."; a file has the checkpoint's names behind
"base_model.model.". Not here: tensors of a framework.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.errors import CheckpointError, ConfigError
from dragoman.files import read_json
from dragoman.spec.lora import LoraSpec

__all__ = ["ADAPTER_WEIGHTS", "adapter_files", "adapter_spec", "from_adapter", "is_new", "lora_targets", "to_adapter"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_BEGINNING = "base_model.model."
_MATRICES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}


def is_new(name: str) -> bool:
    """Return whether a tensor of a model, by our name, is no part of the encoder or of the text model."""
    return name.startswith("bridge.") or any(word.startswith(("cross_attn", "lora_")) for word in name.split("."))


def lora_targets(layers: Iterable[str], targets: Iterable[str], keymap: KeyMap) -> list[str]:
    """Return the layers that are meant, of the linear layers of a decoder by our names; cross-attention never is.

    Raises:
        ConfigError: If a target is the name of no layer.
    """
    named: dict[str, set[str]] = {}
    for layer in layers:
        if layer.startswith("stack.layers.") and "cross_attn" not in layer:
            theirs = keymap.theirs(f"{layer}.weight").removesuffix(".weight")
            named[layer] = {layer.rpartition(".")[2], theirs.rpartition(".")[2]}
    known = sorted(set().union(*named.values()))
    wrong = [target for target in targets if target not in known]
    if wrong:
        raise ConfigError(f"The `targets` of a LoRA may be {', '.join(known)} in this model, but one is {wrong[0]!r}.")
    return [layer for layer, words in named.items() if words & set(targets)]


def to_adapter(tensors: Mapping[str, Any], keymap: KeyMap, bridge: KeyMap) -> dict[str, Any]:
    """Turn new tensors of a model, by our names, into those of an adapter file.

    Raises:
        CheckpointError: If a layer with a LoRA is none of its own in the checkpoint (q, k, v of GPT-2, NeoX and Phi-3).
    """
    found: dict[str, Any] = {}
    decoder = {n.removeprefix("decoder."): t for n, t in tensors.items() if n.startswith("decoder.")}
    for name in [name for name in decoder if name.rpartition(".")[2] in _MATRICES]:
        layer, _, matrix = name.rpartition(".")
        theirs = keymap.theirs(f"{layer}.weight")
        rule = keymap.rule_for(theirs)
        if not isinstance(rule, Rename) or rule.transpose:
            raise CheckpointError(
                f"The checkpoint keeps {layer} in another shape ({theirs}), so its LoRA cannot be a file of PEFT's. "
                "Fold it in instead: model.merge_lora(), then model.save_pretrained(folder)."
            )
        found[f"decoder.{theirs.removesuffix('weight')}{_MATRICES[matrix]}"] = decoder.pop(name)
    found |= {f"decoder.{name}": tensor for name, tensor in keymap.write(decoder).items()}
    found |= bridge.write({n.removeprefix("bridge."): t for n, t in tensors.items() if n.startswith("bridge.")})
    return {_BEGINNING + name: tensor for name, tensor in found.items()}


def from_adapter(tensors: Mapping[str, Any], keymap: KeyMap, bridge: KeyMap) -> dict[str, Any]:
    """Turn the tensors of an adapter file into new tensors of a model, by our names.

    Raises:
        CheckpointError: If a name is not one that `to_adapter` gives.
    """
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(_BEGINNING)
        part = bare.removeprefix("decoder.")
        matrix = next((ours for ours, theirs in _MATRICES.items() if part.endswith("." + theirs)), None)
        if matrix is not None:
            layers = keymap.ours(part.removesuffix(_MATRICES[matrix]) + "weight")
            pairs = [(layer.removesuffix("weight") + matrix, tensor) for layer in layers]
        else:
            pairs = (keymap if part != bare else bridge).read(part, tensor)
        if len(pairs) < 1 or (matrix is not None and len(pairs) > 1):
            raise CheckpointError(f"The adapter has a tensor {name!r}, for which this model has no place.")
        found |= {("decoder." if part != bare else "bridge.") + ours: value for ours, value in pairs}
    return found


def adapter_files(spec: LoraSpec, names: Iterable[str], base: str) -> dict[str, bytes]:
    """Return the configuration of an adapter whose file holds tensors of these names."""
    layers = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name}
    whole = {name.removeprefix(_BEGINNING).rpartition(".")[0] for name in names if ".lora_" not in name}
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": sorted(layers),
        "modules_to_save": sorted(whole) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "task_type": None,
    }
    return {_CONFIG: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()}


def adapter_spec(folder: Path) -> LoraSpec:
    """Read the configuration of an adapter.

    Raises:
        ModelNotFoundError: If there is none.
        CheckpointError: If it is no LoRA, or of a kind that dragoman does not have.
    """
    config = read_json(folder / _CONFIG)
    wanted = {"peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}
    wrong = [f"{name} is {config[name]!r}" for name, value in wanted.items() if config.get(name, value) != value]
    wrong += [f"{name} is set" for name in ("rank_pattern", "alpha_pattern", "layers_to_transform") if config.get(name)]
    rank, alpha, dropout = config.get("r"), config.get("lora_alpha"), config.get("lora_dropout", 0.0)
    targets = config.get("target_modules")
    numbers = type(rank) is int and type(alpha) in (int, float) and type(dropout) in (int, float)
    if wrong or not numbers or not isinstance(targets, list):
        raise CheckpointError(
            f"{folder / _CONFIG} is not of a plain LoRA: {'; '.join(wrong) or 'a number or a list is missing'}. "
            "dragoman reads adapters without biases, of one rank and scale, with a list of target_modules."
        )
    return LoraSpec(rank=rank, alpha=float(alpha), targets=tuple(targets), dropout=float(dropout))  # type: ignore[arg-type]
