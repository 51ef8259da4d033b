"""`state_dict` under the names of checkpoints, readable under both names, and `load_state_dict` from either.

Wrappers (`DistributedDataParallel`, `torch.compile`, FSDP) ask for the tensors of the module inside themselves and
know them by their places; they get our names, which are the places.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.checkpoint.keymap import Drop
from dragoman.checkpoint.lora import LORA_SETTINGS
from dragoman.errors import ConfigError
from dragoman.model.state import Section, from_either, to_checkpoint
from dragoman.torch.backend import BACKEND, own_tensors
from dragoman.torch.places import names_of

_log = logging.getLogger(__name__)

# Words in the names of tensors of layers that PyTorch's tools or PEFT changed.
_CHANGED = {
    "parametrizations", "weight_orig", "weight_mask", "bias_orig", "bias_mask", "base_layer", "modules_to_save",
    "original_module",
}  # fmt: skip


class StateDict(OrderedDict[str, Any]):
    """Tensors under the names of checkpoints; a look-up by our name, or by that of a tied head, finds them too.

    Only the names of checkpoints are listed, counted and written. A copy or a pickle is a plain `OrderedDict`.
    """

    own: Mapping[str, Any] = {}

    def __missing__(self, name: str) -> Any:
        return self.own[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.own

    def get(self, name: str, default: Any = None) -> Any:
        """Return the tensor of either name."""
        return super().get(name, self.own.get(name, default))

    def __reduce__(self) -> Any:
        plain = OrderedDict(self.items())
        plain._metadata = getattr(self, "_metadata", None)  # type: ignore[attr-defined]
        return plain.__reduce__()


def state_dict(module: nn.Module, sections: Sequence[Section], keep_vars: bool) -> dict[str, Any]:
    """Return the tensors of a model or a part, as `nn.Module.state_dict` does, under the names of checkpoints.

    A model with quantised layers has no such names.
    """
    own = own_tensors(module, keep_vars=keep_vars)
    if not all(isinstance(tensor, Tensor) for tensor in own.values()):
        return own  # quantised layers, which no checkpoint holds
    loras = BACKEND.loras(module)
    with torch.set_grad_enabled(keep_vars and torch.is_grad_enabled()):
        named, rest = to_checkpoint(sections, own, loras)
    found = StateDict((name, _whole(tensor)) for name, tensor in {**named, **rest}.items())
    for name, spec in loras.items():
        found[f"{name}.{LORA_SETTINGS}"] = torch.tensor([spec.alpha, spec.dropout])
    _separate(found)
    shared = {name: s.ours[0] for name, s in names_of(module).theirs.items() if isinstance(s.rule, Drop)}
    found.own = {**own, **{name: own[ours] for name, ours in shared.items() if ours in own}}
    found._metadata = getattr(own, "_metadata", None)  # type: ignore[attr-defined]
    return found


def warn_of_adapter(module: nn.Module, prefix: str) -> None:
    """Warn once, where PEFT asks for the tensors of the model that it trained, that what it writes has our names."""
    named = nn.Module.named_parameters(module) if prefix == "base_model.model." else ()
    trained = any(parameter.requires_grad and "lora_" in name for name, parameter in named)
    if trained and "_warned_of_adapter" not in module.__dict__:
        module.__dict__["_warned_of_adapter"] = True
        _log.warning(
            "An adapter that PEFT saves from a model of dragoman has dragoman's names, which transformers does not "
            "know. For transformers: model.load_adapter(folder) on the base, then model.save_adapter(other_folder)."
        )


def check_plain(own: Mapping[str, Any]) -> None:
    """Check that layers hold the tensors that they were built with.

    Raises:
        ConfigError: If some were quantised, pruned, reparametrised or wrapped.
    """
    if not all(isinstance(tensor, Tensor) for tensor in own.values()):
        raise ConfigError(
            "Layers quantised by PyTorch have no place in a checkpoint. Save the model before, or keep the quantised "
            "tensors with torch.save(model.state_dict(), path)."
        )
    changed = [name for name in own if not _CHANGED.isdisjoint(name.split("."))]
    if changed:
        raise ConfigError(
            f"{len(changed)} tensors have no place in a checkpoint, for instance {changed[0]}: a layer was pruned, "
            "reparametrised or wrapped. Make it plain first: torch.nn.utils.prune.remove, "
            "torch.nn.utils.parametrize.remove_parametrizations, or PEFT's merge_and_unload."
        )


def rename(state: dict[str, Any], prefix: str, module: nn.Module, sections: Sequence[Section]) -> None:
    """Give the tensors of a module in a dictionary our names, in place, whichever they have."""
    names = [(name, str(name)) for name in state]
    inside = {plain.removeprefix(prefix): state.pop(name) for name, plain in names if plain.startswith(prefix)}
    tensors = from_either(sections, inside, own_tensors(module).keys())
    state.update({prefix + name: tensor for name, tensor in tensors.items()})


def _whole(tensor: Any) -> Any:
    """Return a transposed tensor in memory of its own, as files need it."""
    return tensor.contiguous() if isinstance(tensor, Tensor) else tensor


def _separate(state: StateDict) -> None:
    """Copy the second of two names of one tensor (an untied BERT's bias), which a safetensors file cannot hold."""
    seen: set[int] = set()
    for name, tensor in state.items():
        if isinstance(tensor, Tensor):
            state[name] = tensor.clone() if id(tensor) in seen else tensor
            seen.add(id(tensor))
