"""LoRA adapters in PEFT's file format: adapter_config.json and adapter_model.safetensors.

Besides the LoRA, the file holds the whole cross-attention and bridge, and what else was trained, PEFT's
`modules_to_save`. Our names start with "encoder.", "decoder." or "bridge."; in a file, the checkpoint's names follow
"base_model.model.".
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.checkpoint.filling import Readable
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import CheckpointError, ConfigError
from dragoman.files import read_json
from dragoman.spec.lora import LoraSpec

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_BRIDGE = "bridge."
ALL_LINEAR = "all-linear"
"""Target of a LoRA on all linear layers."""
BASE_WEIGHT = "base_weight"
"""Last word of the weight without the LoRA, in a state dict, whose own weight is folded."""
LORA_SETTINGS = "lora_settings"
"""Last word of the numbers `[alpha, dropout]` of a layer's LoRA, in a state dict."""
_PARTS = ("lora_a", "lora_b", BASE_WEIGHT, LORA_SETTINGS)
_MATRICES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}


def is_new(name: str) -> bool:
    """Return whether a tensor, by our name, belongs to neither the encoder nor the pretrained text model."""
    return name.startswith("bridge.") or any(word.startswith(("cross_attn", "lora_")) for word in name.split("."))


class PlainTensors:
    """The tensors of a file without the parts of its LoRA, whose weights are there folded."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    def keys(self) -> list[str]:
        """Return their names."""
        return [name for name in self._file.keys() if name.rpartition(".")[2] not in _PARTS]  # noqa: SIM118

    def read(self, key: str) -> Any:
        """Return a tensor."""
        return self._file.read(key)


def loras_in(file: TensorFile, linears: Collection[str], prefix: str) -> dict[str, LoraSpec]:
    """Return the layers, by our names, whose LoRA a trainer saved with their model, and its sizes.

    Args:
        file: The checkpoint.
        linears: The linear layers of the module, by our names.
        prefix: That of the module in the file.

    Raises:
        CheckpointError: If a part of a LoRA is missing, does not fit, or belongs to no layer of the module.
    """
    names = set(file.keys())
    layers = sorted(
        name.removesuffix(".lora_a") for name in names if name.endswith(".lora_a") and name.startswith(prefix)
    )
    found: dict[str, LoraSpec] = {}
    for layer in layers:
        own = layer.removeprefix(prefix)
        if own not in linears or any(f"{layer}.{word}" not in names for word in _PARTS):
            raise CheckpointError(
                f"The checkpoint holds a LoRA of {layer}, but not its settings, or no such layer is in the model. "
                "Save it with model.save_pretrained or model.save_adapter; or build the model again, add the same LoRA "
                "with model.add_lora, and load the tensors with model.load_state_dict."
            )
        a, b, base, numbers = (tuple(file.shape(f"{layer}.{word}")) for word in _PARTS)
        if numbers != (2,) or len(a) != 2 or b != (*base[:1], a[0]) or base != (*b[:1], a[1]):
            raise CheckpointError(f"The LoRA of {layer} in the checkpoint has shapes that do not fit each other.")
        alpha, dropout = (float(number) for number in file.read(f"{layer}.{LORA_SETTINGS}"))
        words = tuple(sorted({name.rpartition(".")[2] for name in layers}))
        found[own] = LoraSpec(rank=a[0], alpha=alpha, dropout=dropout, targets=words)
    return found


def lora_targets(
    layers: Mapping[str, Iterable[str]], targets: Sequence[str], keymaps: Mapping[str, KeyMap]
) -> list[str]:
    """Return the layers that get a LoRA; those of cross-attention never do.

    Args:
        layers: The linear layers of the parts that may have one, by the prefixes of our names.
        targets: Last words of their names, ours or the checkpoint's ("q_proj", "o_proj", "query", "c_attn", …);
            "all-linear" for all.
        keymaps: Name tables of the parts.

    Raises:
        ConfigError: If a target is not the name of a layer.
    """
    named: dict[str, set[str]] = {}
    for prefix, layer in ((prefix, layer) for prefix, own in layers.items() for layer in own):
        if layer.startswith("stack.layers.") and "cross_attn" not in layer:
            theirs = keymaps[prefix].theirs(f"{layer}.weight").removesuffix(".weight")
            named[prefix + layer] = {layer.rpartition(".")[2], theirs.rpartition(".")[2]}
    if list(targets) == [ALL_LINEAR]:
        return list(named)
    known = sorted(set().union(*named.values()))
    wrong = [target for target in targets if target not in known]
    if wrong:
        raise ConfigError(f"The `targets` of a LoRA may be {', '.join(known)} in this model, but one is {wrong[0]!r}.")
    return [layer for layer, words in named.items() if words & set(targets)]


def to_adapter(tensors: Mapping[str, Any], keymaps: Mapping[str, KeyMap]) -> dict[str, Any]:
    """Return tensors of a model, given by our names, as an adapter file has them.

    Args:
        tensors: The LoRA, and what else was trained.
        keymaps: Name tables of the parts by the prefixes of our names; the bridge's names have none in a file.

    Raises:
        CheckpointError: If a layer with a LoRA is fused or transposed in the checkpoint (q, k, v of GPT-2, GPT-NeoX and
            Phi-3).
    """
    found: dict[str, Any] = {}
    for prefix, keymap in keymaps.items():
        own = {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
        theirs = _PREFIX if prefix == _BRIDGE else _PREFIX + prefix
        for name in [name for name in own if name.rpartition(".")[2] in _MATRICES]:
            found[theirs + _matrix_name(name, keymap)] = own.pop(name)
        found |= {theirs + name: tensor for name, tensor in keymap.write(own).items()}
    return found


def _matrix_name(name: str, keymap: KeyMap) -> str:
    """Return the name of a matrix of a LoRA in an adapter file."""
    layer, _, matrix = name.rpartition(".")
    theirs = keymap.theirs(f"{layer}.weight")
    rule = keymap.rule_for(theirs)
    if not isinstance(rule, Rename) or rule.transpose:
        raise CheckpointError(
            f"The checkpoint stores {layer} in another shape ({theirs}), so PEFT's format cannot hold its LoRA. "
            "Fold it in instead: model.merge_lora(), then model.save_pretrained(folder)."
        )
    return f"{theirs.removesuffix('weight')}{_MATRICES[matrix]}"


def from_adapter(tensors: Mapping[str, Any], keymaps: Mapping[str, KeyMap], known: Collection[str]) -> dict[str, Any]:
    """Return the tensors of an adapter file by our names; `keymaps` are those of `to_adapter`.

    PEFT writes our own names, `known`, for a model that it wrapped.

    Raises:
        CheckpointError: If the model has no tensor for a name.
    """
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(_PREFIX)
        prefix = next((prefix for prefix in keymaps if bare.startswith(prefix)), _BRIDGE)
        part = bare.removeprefix(prefix)
        keymap = keymaps[prefix]
        matrix = next((ours for ours, theirs in _MATRICES.items() if part.endswith("." + theirs)), None)
        layer = bare.removesuffix(_MATRICES[matrix]) if matrix is not None else ""
        if f"{layer}weight" in known or bare in known:
            found[layer + matrix if matrix is not None else bare] = tensor
            continue
        if matrix is not None:
            layers = keymap.ours(part.removesuffix(_MATRICES[matrix]) + "weight")
            pairs = [(layer.removesuffix("weight") + matrix, tensor) for layer in layers]
        else:
            pairs = keymap.read(part, tensor)
        if len(pairs) != 1 and (matrix is not None or not pairs):
            raise CheckpointError(f"The adapter holds {name!r}, which is no tensor of this model.")
        found |= {prefix + ours: array for ours, array in pairs}
    return found


def adapter_files(spec: LoraSpec, names: Iterable[str], base: str) -> dict[str, bytes]:
    """Return the `adapter_config.json` of an adapter.

    Args:
        spec: Of the LoRA.
        names: The tensors in the adapter's file.
        base: Name of the model that it was trained on.
    """
    layers = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name}
    whole = {name.removeprefix(_PREFIX).rpartition(".")[0] for name in names if ".lora_" not in name}
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
        CheckpointError: If it is not a LoRA, or of a variant that dragoman does not support.
    """
    config = read_json(folder / _CONFIG)
    wanted = {"peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}
    wrong = [f"{name} is {config[name]!r}" for name, value in wanted.items() if config.get(name, value) != value]
    wrong += [f"{name} is set" for name in ("rank_pattern", "alpha_pattern", "layers_to_transform") if config.get(name)]
    rank, alpha, dropout = config.get("r"), config.get("lora_alpha"), config.get("lora_dropout", 0.0)
    targets = config.get("target_modules")
    targets = [ALL_LINEAR] if isinstance(targets, str) else targets  # a pattern: the file says which layers
    numbers = type(rank) is int and type(alpha) in (int, float) and type(dropout) in (int, float)
    if wrong or not numbers or not isinstance(targets, list):
        raise CheckpointError(
            f"{folder / _CONFIG} is not a plain LoRA: {'; '.join(wrong) or 'a number or a list is missing'}. "
            "dragoman reads adapters without biases, with one rank and alpha and a list of target_modules."
        )
    return LoraSpec(rank=rank, alpha=float(alpha), targets=tuple(targets), dropout=float(dropout))  # type: ignore[arg-type]
