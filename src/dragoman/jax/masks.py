"""Masks over parameters for optimizers, for code that knows the parameters of Flax models of `transformers`."""

from collections.abc import Callable, Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from dragoman.errors import ConfigError
from dragoman.jax.net.tree import Tree, flat, nested
from dragoman.model.naming import tensor_names

_PARTS_OF_WEIGHT_NORM = {"original0": "weight_g", "original1": "weight_v"}


def decay_mask(params: Mapping[str, Any]) -> Tree:
    """Return for each parameter whether weight decay applies to it: not to biases and to the weights of norms.

        >>> optimizer = optax.adamw(1e-4, weight_decay=0.01, mask=decay_mask)

    A mask function of a Flax script looks for leaves named "kernel" and "scale", which here are named "weight" as in
    PyTorch, and would decay all; `flax_mask` runs one unchanged.

    Args:
        params: Parameters of a model, or any part of them.
    """
    return nested({name: not _is_bias_or_norm(name.split(".")) for name in flat(params)})


def _is_bias_or_norm(words: list[str]) -> bool:
    return words[-1] == "bias" or any(word.endswith("norm") for word in words[-2:-1])


def flax_mask(model: Any, function: Callable[[Tree], Any]) -> Tree:
    """Return what a mask function of a Flax script says about the parameters of a model.

    The function gets the parameters under the paths that they have in the Flax models of `transformers`, such as
    `("encoder", "feature_extractor", "conv_layers", "0", "conv", "kernel")`; what it returns for a path, a bool or a
    label for `optax.multi_transform`, is put in the place of our parameter.

        >>> optimizer = optax.adamw(1e-4, mask=flax_mask(model, decay_mask_fn))

    Args:
        model: The model.
        function: From a tree of parameters to a tree of the same structure.

    Raises:
        ConfigError: If the result lacks a parameter.
    """
    leaves = flat(model.params)
    paths = flax_paths(model)
    named = {path: leaves[ours] for ours, path in paths.items()}  # the last part stands for a fused tensor
    found = flatten_dict(function(unflatten_dict(named)))  # type: ignore[no-untyped-call]
    missing = [".".join(path) for path in named if path not in found]
    if missing:
        raise ConfigError(
            f"The mask function must return a value for each of the {len(named)} parameters, but left out "
            f"{len(missing)}: {', '.join(missing[:3])}."
        )
    return nested({ours: found[path] for ours, path in paths.items()})


def flax_paths(model: Any) -> dict[str, tuple[str, ...]]:
    """Return by our name the path of each parameter in the Flax models of `transformers`.

    A tensor that is fused there (q, k and v of GPT-2) has one path for several parameters.
    """
    return {ours: _flax_path(ours, theirs) for ours, theirs in tensor_names(model, flat(model.params)).pairs()}


def _flax_path(ours: str, theirs: str) -> tuple[str, ...]:
    *words, last = theirs.split(".")
    if words[-2:] == ["parametrizations", "weight"]:
        return (*words[:-2], _PARTS_OF_WEIGHT_NORM.get(last, last))
    own = ours.split(".")
    if last == "weight":
        is_table = own[-2] in ("tokens", "positions", "token_types") or own[-3:-1] == ["position_bias", "embed"]
        last = "scale" if _is_bias_or_norm(own) else "embedding" if is_table else "kernel"
    return (*words, last)
