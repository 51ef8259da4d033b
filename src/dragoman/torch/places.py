"""What a name or a path of `transformers` is in a part or a model of ours: tensors, modules, or several of these."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from dragoman.checkpoint.keymap import Drop, KeyMap
from dragoman.errors import ConfigError
from dragoman.model.naming import Stored, TensorNames, tensor_names


def names_of(root: nn.Module) -> TensorNames:
    """Return the names of a model's tensors, kept until a tensor comes or goes."""
    tensors = (*nn.Module.named_parameters(root, remove_duplicate=False), *root.named_buffers(remove_duplicate=False))
    ours = tuple(name for name, _ in tensors)
    kept: TensorNames | None = root.__dict__.get("_tensor_names")
    if kept is None or kept.ours != ours:
        kept = root.__dict__["_tensor_names"] = tensor_names(root, ours)
    return kept


def is_there(root: nn.Module, path: str) -> bool:
    """Return whether a path of `transformers` leads to tensors that this model has."""
    names = names_of(root)
    return path in names.theirs or bool(names.below(path))


def tensor_of(root: nn.Module, name: str) -> Any:
    owner, _, last = name.rpartition(".")
    return getattr(root.get_submodule(owner), last)


def as_stored(root: nn.Module, name: str, stored: Stored, tensors: list[Any]) -> Any:
    if isinstance(stored.rule, Drop):
        return tensors[0]
    bare = _within(stored)
    (array,) = KeyMap((stored.rule,)).write(dict(zip(bare, tensors, strict=True))).values()
    return array


def copy_stored(root: nn.Module, name: str, stored: Stored, array: Any) -> list[str]:
    """Copy one tensor of `transformers` into ours; return what is wrong with it."""
    if isinstance(stored.rule, Drop):
        pairs = [(stored.ours[0], array)]
    else:
        wanted = _within(stored)
        table = KeyMap((stored.rule,))
        written = next(iter(table.stored(wanted)))
        pairs = list(zip(stored.ours, (part for _, part in table.read(written, array)), strict=True))
    for ours, part in pairs:
        own = tensor_of(root, ours)
        if own.shape != part.shape:
            return [f"{name} has the shape {list(part.shape)}, but {ours} {list(own.shape)}."]
        with torch.no_grad():
            own.copy_(part)
    return []


def _within(stored: Stored) -> list[str]:
    """Return our names without the prefixes of a whole model, as the rule has them."""
    words = stored.ours[0].split(".")[0]
    outer = words in ("encoder", "decoder", "bridge")
    return [name.partition(".")[2] if outer else name for name in stored.ours]


def contained(root: nn.Module, below: Mapping[str, Stored]) -> list[tuple[str, nn.Module]]:
    """Return the modules of ours all of whose tensors are among those `below`."""
    covered = {ours for stored in below.values() for ours in stored.ours}
    first, *rest = [name.split(".")[:-1] for name in covered]
    depth = len(first)
    for words in rest:
        depth = next((i for i, word in enumerate(first[:depth]) if words[i : i + 1] != [word]), depth)
    common = ".".join(first[:depth])
    found = []
    for name, module in root.get_submodule(common).named_modules(prefix=common):
        name = str(name)
        own = [f"{name}.{tensor}" for tensor in _tensors_of(module)]
        if name and own and covered.issuperset(own):
            found.append((name, module))
    return found


def module_name(root: nn.Module, below: Mapping[str, Stored]) -> str | None:
    """Return the name of the module of ours that holds the same tensors: the innermost one, or a list of layers."""
    count = len({ours for stored in below.values() for ours in stored.ours})
    same = [(name, m) for name, m in contained(root, below) if len(_tensors_of(m)) == count]
    if all(name.partition(".")[0].isdigit() for name in below):
        same = [(name, module) for name, module in same if isinstance(module, nn.ModuleList)] or same
    return same[-1][0] if same else None


def meaning(root: nn.Module, path: str) -> str:
    """Return what a path of `transformers` is here, for messages."""
    below = names_of(root).below(path)
    found = module_name(root, below)
    if found is not None:
        return f"it is `{found}` here."
    outer = _outermost(root, below)
    return f"it is several modules here: {', '.join(outer[:6])}{', …' if len(outer) > 6 else ''}."


def parts_of(root: nn.Module, test: Callable[[str], bool]) -> list[str]:
    """Return our modules that make up those modules in `transformers` that are several here and that a test chooses.

    Raises:
        ConfigError: If one has tensors that belong to no module inside it here.
    """
    names = names_of(root)
    words = [theirs.split(".")[:-1] for theirs in names.theirs]
    paths = {".".join(path[:count]) for path in words for count in range(1, len(path) + 1)}
    found: list[str] = []
    for path in filter(test, sorted(paths.difference(names.modules().values()))):
        below = {name: s for name, s in names.below(path).items() if not isinstance(s.rule, Drop)}
        parts = _outermost(root, below) if below else []
        held = {f"{part}.{tensor}" for part in parts for tensor in _tensors_of(root.get_submodule(part))}
        lost = [ours for stored in below.values() for ours in stored.ours if ours not in held]
        if lost:
            raise ConfigError(f"`{path}` is no module here: {lost[0]} belongs to another one. Name its parts instead.")
        found += parts
    return found


def _outermost(root: nn.Module, below: Mapping[str, Stored]) -> list[str]:
    outer: list[str] = []
    for name, _ in contained(root, below):
        if not any(name.startswith(f"{other}.") for other in outer):
            outer.append(name)
    return outer


def _tensors_of(module: nn.Module) -> list[str]:
    return [name for name, _ in (*nn.Module.named_parameters(module), *module.named_buffers())]
