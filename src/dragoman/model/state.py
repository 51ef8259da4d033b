"""The tensors of a model or a part under two sets of names: ours and those of its checkpoints.

`state_dict()` gives the names of checkpoints, so that what a trainer writes is a checkpoint; `load_state_dict` takes
either. A layer with a LoRA is written folded, and besides, under our names, what is needed to take it apart again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from dragoman.checkpoint.keymap import Drop, KeyMap
from dragoman.checkpoint.lora import BASE_WEIGHT, LORA_SETTINGS
from dragoman.model.backend import JointModel, ModelPart
from dragoman.model.names import bridge_keys, keymap_of, saved_prefixes
from dragoman.spec.lora import LoraSpec


@dataclass(frozen=True)
class Section:
    """The tensors of one module.

    Attributes:
        ours: Prefix of our names.
        theirs: Prefix of the names in checkpoints.
        keymap: What follows the prefixes.
    """

    ours: str
    theirs: str
    keymap: KeyMap


def part_sections(part: ModelPart) -> tuple[Section, ...]:
    """Return the section of a part alone."""
    return (Section("", "", keymap_of(part)),)


def model_sections(model: JointModel) -> tuple[Section, ...]:
    """Return the sections of a whole model."""
    encoder, decoder = saved_prefixes(model.config)
    return (
        Section("encoder.", encoder, keymap_of(model.encoder)),
        Section("decoder.", decoder, keymap_of(model.decoder)),
        Section("bridge.", "", bridge_keys(model.config)),
    )


def to_checkpoint(
    sections: Sequence[Section], tensors: Mapping[str, Any], loras: Mapping[str, LoraSpec]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return tensors, given by our names, under the names of checkpoints, and those that have no such name.

    Args:
        sections: Of the model or part.
        tensors: By our names.
        loras: The layers with a LoRA, by our names. Their weights are folded.
    """
    named: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for section in sections:
        own = {n.removeprefix(section.ours): tensor for n, tensor in tensors.items() if n.startswith(section.ours)}
        for layer, spec in loras.items():
            if layer.startswith(section.ours):
                rest |= _folded(own, layer.removeprefix(section.ours), spec, section.ours)
        known = section.keymap.writable(own)
        named |= {
            section.theirs + name: tensor
            for name, tensor in section.keymap.write({name: own[name] for name in known}).items()
        }
        named |= {section.theirs + name: tensor for name, tensor in unused_tensors(section.keymap, own).items()}
        rest |= {section.ours + name: tensor for name, tensor in own.items() if name not in known}
    starts = tuple(section.ours for section in sections)
    return named, rest | {name: tensor for name, tensor in tensors.items() if not name.startswith(starts)}


def unused_tensors(keymap: KeyMap, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a whole file holds besides the tensors of a module, as arrays of their framework."""
    unused = keymap.unused() if own else {}
    return {name: array_namespace(next(iter(own.values()))).asarray(array) for name, array in unused.items()}


def _folded(own: dict[str, Any], layer: str, spec: LoraSpec, prefix: str) -> dict[str, Any]:
    """Fold the LoRA of a layer into its weight; return the parts, by our names."""
    parts = {name: own.pop(f"{layer}.{name}") for name in ("lora_a", "lora_b")}
    base = own[f"{layer}.weight"]
    own[f"{layer}.weight"] = spec.folded(base, *parts.values())
    return {f"{prefix}{layer}.{name}": tensor for name, tensor in {**parts, BASE_WEIGHT: base}.items()}


def from_either(sections: Sequence[Section], given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return tensors under our names, whichever names they have; names of neither kind stay.

    Args:
        sections: Of the model or part.
        given: By our names, by those of checkpoints, or mixed; ours win.
        known: Our names of all its tensors.
    """
    found: dict[str, Any] = {}
    listed = set(given)  # a state dict of ours answers to more names than it lists
    for name, tensor in ((str(name), tensor) for name, tensor in given.items()):
        layer, _, last = name.rpartition(".")
        if name in known:
            found[name] = tensor
        elif last == BASE_WEIGHT and f"{layer}.lora_a" in known:
            found[f"{layer}.weight"] = tensor
        elif last not in (BASE_WEIGHT, LORA_SETTINGS) or f"{layer}.weight" not in known:
            renamed = _renamed(sections, name, tensor, known)
            if renamed is None:
                found[name] = tensor
            for ours, array in renamed or ():
                if ours not in listed:
                    found.setdefault(ours, array)
    return found


def _renamed(
    sections: Sequence[Section], name: str, tensor: Any, known: Collection[str]
) -> Sequence[tuple[str, Any]] | None:
    """Return our names for one of a checkpoint, none if it is left out there; `None` if it is unknown."""
    dropped = False
    for section in sections:
        if name.startswith(section.theirs):
            canonical = section.keymap.canonical_name(name.removeprefix(section.theirs))
            ours = section.keymap.ours(canonical)
            if ours and all(section.ours + one in known for one in ours):
                return [(section.ours + one, array) for one, array in section.keymap.read(canonical, tensor)]
            dropped = dropped or isinstance(section.keymap.rule_for(canonical), Drop)
            wrapped = _inside_a_layer(section, canonical, known)
            if wrapped is not None:
                return [(wrapped, tensor)]
    return () if dropped else None


def _inside_a_layer(section: Section, name: str, known: Collection[str]) -> str | None:
    """Return our name of a tensor inside a layer that was replaced, by PEFT with or without an adapter's name."""
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        layer = section.keymap.ours(".".join(words[:count]) + ".weight")
        if len(layer) == 1:
            path = section.ours + layer[0].removesuffix(".weight")
            wanted, inside = words[count:], [own for own in known if own.startswith(f"{path}.")]
            found = [own for own in inside if _less_one(own.removeprefix(f"{path}.").split("."), wanted)]
            return found[0] if len(found) == 1 else None
    return None


def _less_one(words: list[str], wanted: list[str]) -> bool:
    return words == wanted or any(words[:i] + words[i + 1 :] == wanted for i in range(len(words)))
