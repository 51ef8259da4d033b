"""How configurations say what rotary positions a model has, in the words of any release of transformers."""

from collections.abc import Mapping
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec import RotaryScaling, RotarySpec

__all__ = ["rope_parameters_of", "rotary_of"]

_NEEDED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def rope_parameters_of(given: Mapping[str, Any] | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return `rope_parameters`, completed by what releases before 5.0 wrote: `rope_theta` and `rope_scaling`."""
    scaling = extra.get("rope_scaling")
    found = {**(scaling if isinstance(scaling, Mapping) else {}), **(given or {})}
    kind = found.pop("type", "default")
    found.setdefault("rope_type", kind)
    found.setdefault("rope_theta", extra.get("rope_theta", 10_000.0))
    return found


def rotary_of(parameters: Mapping[str, Any], head_dim: int) -> RotarySpec:
    """Return the rotary positions that `rope_parameters` ask for.

    Raises:
        ConfigError: If they are of a kind that dragoman does not have, or a number is missing.
    """
    kind = parameters.get("rope_type", "default")
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise ConfigError(
            f"The `rope_type` of `rope_parameters` must be one of {', '.join(_NEEDED)}, but is {kind!r}. Texts no "
            'longer than the model was first trained for work with "default".'
        )
    numbers = {"partial_rotary_factor": 1.0, **parameters}
    names = ("rope_theta", "partial_rotary_factor", *_NEEDED[kind])
    wrong = [f"`{name}` is {numbers.get(name)!r}" for name in names if type(numbers.get(name)) not in (int, float)]
    if wrong or not 0 < numbers["partial_rotary_factor"] <= 1:
        raise ConfigError(
            f"The `rope_parameters` of the type {kind!r} must hold numbers, and turn a share from 0 to 1 of each head, "
            f"but {'; '.join(wrong) or 'the share is ' + repr(numbers['partial_rotary_factor'])}."
        )
    scaling = None
    if kind != "default":
        scaling = RotaryScaling(
            factor=numbers["factor"],
            low=numbers.get("low_freq_factor"),
            high=numbers.get("high_freq_factor"),
            original_positions=numbers.get("original_max_position_embeddings", 0),
        )
    width = int(head_dim * numbers["partial_rotary_factor"])
    return RotarySpec(width=width, theta=numbers["rope_theta"], scaling=scaling)
