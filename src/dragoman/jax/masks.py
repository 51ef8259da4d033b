"""Parameters under the paths that they have in the Flax models of `transformers`, and masks over them for optimizers.

There a weight is named "kernel", "scale" or "embedding"; a kernel has its axes in reverse order, `[in, out]`, and q, k
and v of GPT-2 are one tensor. `model.params` has this form, so that code for Flax finds what it looks for.
"""

from collections.abc import Collection, Mapping
from typing import Any

from dragoman.errors import CheckpointError, ConfigError
from dragoman.jax.net.tree import Tree, flat, nested
from dragoman.model.naming import sections_of, tensor_names
from dragoman.model.state import Section, from_either, to_checkpoint

_PARTS_OF_WEIGHT_NORM = {"original0": "weight_g", "original1": "weight_v"}


def decay_mask(params: Mapping[str, Any]) -> Tree:
    """Return for each parameter whether weight decay applies to it: not to biases and to the weights of norms.

        >>> optimizer = optax.adamw(1e-4, weight_decay=0.01, mask=decay_mask)

    Args:
        params: Parameters of a model (`model.params` or `model.tree`), or any part of them.
    """
    return nested({name: not _is_bias_or_norm(name.split(".")) for name in flat(params)})


def _is_bias_or_norm(words: list[str]) -> bool:
    return words[-1] in ("bias", "scale") or any(word.endswith("norm") for word in words[-2:-1])


def to_flax(model: Any, tree: Mapping[str, Any]) -> Tree:
    """Return parameters under our names, a whole tree, as the Flax models of `transformers` have them.

    What these lack (a LoRA) has a path in the style of the family.

    Args:
        model: The model or part.
        tree: Its parameters, arrays or tracers.
    """
    tensors = flat(tree)
    named, rest = to_checkpoint(_sections(model), tensors, {})
    named |= rest
    return nested({".".join(path): _turned(path, named[theirs]) for theirs, path in _paths(model, tensors).items()})


def from_flax(model: Any, given: Mapping[str, Any], own: Collection[str]) -> Tree:
    """Return parameters under our names; they may have either form and may be a part of all.

    Args:
        model: The model or part.
        given: The parameters, arrays or tracers.
        own: Our names of all its parameters.
    """
    leaves = flat(given)
    if leaves.keys() <= set(own):
        return nested(leaves)
    theirs = {".".join(path): (path, name) for name, path in _paths(model, own).items()}
    unknown = {path: leaf for path, leaf in leaves.items() if path not in theirs}
    named = {theirs[path][1]: _turned(theirs[path][0], leaf) for path, leaf in leaves.items() if path in theirs}
    return nested({**unknown, **from_either(_sections(model), named, set(own))})


def in_form(model: Any, own: Mapping[str, Any], params: Mapping[str, Any]) -> Tree:
    """Return what there is for each of our names (a mask) as a tree of the form of `params`."""
    leaves = flat(own)
    if flat(params).keys() == leaves.keys():
        return nested(leaves)
    paths = tensor_names(model, leaves).pairs()
    return nested({".".join(_flax_path(ours, theirs)): leaves[ours] for ours, theirs in paths})


def all_from_flax(model: Any, given: Any, own: Collection[str]) -> Tree:
    """Return the same, of all parameters.

    Raises:
        CheckpointError: If some are missing, or are of another model.
    """
    found = from_flax(model, given, own) if isinstance(given, Mapping) else {}
    names, wanted = flat(found).keys(), set(own)
    if names == wanted:
        return found
    raise CheckpointError(
        f"`params` must be a tree like `model.params`, but of its {len(wanted)} tensors {len(wanted - names)} are "
        f"missing ({', '.join(sorted(wanted - names)[:3])}) and {len(names - wanted)} are of another model "
        f"({', '.join(sorted(names - wanted)[:3])})."
    )


def check_own(params: Mapping[str, Any], function: str) -> None:
    """Check that parameters have our names.

    Raises:
        ConfigError: If they have those of Flax models.
    """
    if any(name.rpartition(".")[2] in ("kernel", "scale", "embedding") for name in flat(params)):
        raise ConfigError(f"`{function}` takes parameters under dragoman's names: `model.tree`, not `model.params`.")


def _turned(path: tuple[str, ...], array: Any) -> Any:
    return array.T if path[-1] == "kernel" else array


def _sections(model: Any) -> tuple[Section, ...]:
    return tuple(Section(*section) for section in sections_of(model))


def _paths(model: Any, own: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return by the names in `transformers` (in PyTorch) the path of each parameter."""
    return {theirs: _flax_path(ours, theirs) for ours, theirs in tensor_names(model, own).pairs()}


def _flax_path(ours: str, theirs: str) -> tuple[str, ...]:
    *words, last = theirs.split(".")
    if words[-2:] == ["parametrizations", "weight"]:
        return (*words[:-2], _PARTS_OF_WEIGHT_NORM.get(last, last))
    own = ours.split(".")
    if last == "weight":
        is_table = own[-2] in ("tokens", "positions", "token_types") or own[-3:-1] == ["position_bias", "embed"]
        last = "scale" if _is_bias_or_norm(own) else "embedding" if is_table else "kernel"
    return (*words, last)
