"""Rotary positions in a `config.json`, under the names of any release of `transformers`."""

import math
from collections.abc import Mapping
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec import PairScaling, RotaryScaling, RotarySpec, YarnScaling

_NEEDED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),  # acts only on sequences longer than we allow
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
    "longrope": ("factor", "original_max_position_embeddings"),
}

# `rope_parameters` of each kind of scaling, for tiny models whose heads have three pairs of channels.
_TINY: dict[str, Any] = {"rope_theta": 100.0, "factor": 4.0}
_EARLY = _TINY | {"original_max_position_embeddings": 16}
TINY_ROPES: dict[str, dict[str, Any]] = {
    "linear": _TINY | {"rope_type": "linear"},
    "dynamic": _TINY | {"rope_type": "dynamic"},
    "llama3": _EARLY | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": _EARLY | {"rope_type": "yarn"},
    "longrope": _EARLY | {"rope_type": "longrope", "short_factor": [1.0, 2.0, 1.5], "long_factor": [9.0, 9.0, 9.0]},
}


def rope_parameters_of(
    given: Mapping[str, Any] | None, extra: Mapping[str, Any], share: float | None = None
) -> dict[str, Any]:
    """Return complete `rope_parameters`.

    Args:
        given: What the file has under this name.
        extra: Other keys of the file; releases before 5.0 wrote `rope_theta`, `rope_scaling` and
            `partial_rotary_factor` there.
        share: The part of each head that is rotated where the file does not say, for a family with such a part.
    """
    scaling = extra.get("rope_scaling")
    found = {**(scaling if isinstance(scaling, Mapping) else {}), **(given or {})}
    kind = found.pop("type", "default")
    found.setdefault("rope_type", kind)
    found.setdefault("rope_theta", extra.get("rope_theta", 10_000.0))
    if extra.get("original_max_position_embeddings") is not None:  # next to `rope_parameters`; it takes precedence
        found["original_max_position_embeddings"] = extra["original_max_position_embeddings"]
    if share is not None:
        found.setdefault("partial_rotary_factor", extra.get("partial_rotary_factor", share))
    return found


def longest_text(parameters: Mapping[str, Any], max_positions: int) -> int:
    """Return the largest number of positions; with LongRoPE, more need other angles, which are not supported."""
    given = parameters.get("original_max_position_embeddings")
    if parameters.get("rope_type") == "longrope" and isinstance(given, int):
        return min(given, max_positions)
    return max_positions


def rotary_of(parameters: Mapping[str, Any], head_dim: int, max_positions: int) -> RotarySpec:
    """Describe the rotary positions that `rope_parameters` ask for.

    Raises:
        ConfigError: If their kind is not supported, or a number is missing.
    """
    kind = parameters.get("rope_type", "default")
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise ConfigError(
            f"The `rope_type` of `rope_parameters` must be one of {', '.join(_NEEDED)}, but is {kind!r}. With "
            '"default", sequences no longer than those of the original training work.'
        )
    numbers = {"partial_rotary_factor": 1.0, **parameters}
    if kind in ("yarn", "longrope"):
        _complete(numbers, max_positions)
    names = ("rope_theta", "partial_rotary_factor", *_NEEDED[kind])
    wrong = [f"`{name}` is {numbers.get(name)!r}" for name in names if type(numbers.get(name)) not in (int, float)]
    if wrong or not 0 < numbers["partial_rotary_factor"] <= 1:
        raise ConfigError(
            f"`rope_parameters` of the type {kind!r} must hold numbers, and `partial_rotary_factor` lie above 0 and at "
            f"most 1, but {'; '.join(wrong) or 'the factor is ' + repr(numbers['partial_rotary_factor'])}."
        )
    width = int(head_dim * numbers["partial_rotary_factor"])
    return RotarySpec(
        width=width, theta=numbers["rope_theta"], scaling=_scaling(kind, numbers), magnitude=_magnitude(kind, numbers)
    )


def _complete(numbers: dict[str, Any], max_positions: int) -> None:
    """Fill in numbers that follow from others, as `transformers` does."""
    if numbers.get("original_max_position_embeddings") is None:
        numbers["original_max_position_embeddings"] = max_positions
    original = numbers["original_max_position_embeddings"]
    if numbers.get("factor") is None and type(original) is int and original > 0:
        numbers["factor"] = max_positions / original
    numbers["beta_fast"] = numbers.get("beta_fast") or 32
    numbers["beta_slow"] = numbers.get("beta_slow") or 1


def _scaling(kind: str, numbers: Mapping[str, Any]) -> RotaryScaling | YarnScaling | PairScaling | None:
    if kind in ("linear", "llama3"):
        return RotaryScaling(
            factor=numbers["factor"],
            low=numbers.get("low_freq_factor"),
            high=numbers.get("high_freq_factor"),
            original_positions=numbers.get("original_max_position_embeddings", 0),
        )
    if kind == "yarn":
        return YarnScaling(
            factor=numbers["factor"],
            original_positions=numbers["original_max_position_embeddings"],
            fast=numbers["beta_fast"],
            slow=numbers["beta_slow"],
            whole=numbers.get("truncate", True) is not False,
        )
    if kind == "longrope":
        factors = numbers.get("short_factor")
        if not isinstance(factors, list | tuple) or any(type(one) not in (int, float) for one in factors):
            raise ConfigError(f"`short_factor` of `rope_parameters` must be a list of numbers, but is {factors!r:.60}.")
        return PairScaling(factors=tuple(factors))
    return None


def _magnitude(kind: str, numbers: Mapping[str, Any]) -> float:
    """Return the factor of rotated channels."""
    if kind not in ("yarn", "longrope"):
        return 1.0
    given, factor = numbers.get("attention_factor"), numbers["factor"]
    if given is not None:
        if type(given) not in (int, float):
            raise ConfigError(f"`attention_factor` of `rope_parameters` must be a number or null, but is {given!r}.")
        return float(given)
    if factor <= 1:
        return 1.0
    if kind == "longrope":
        original = numbers["original_max_position_embeddings"]
        if original < 2:
            raise ConfigError(f"`original_max_position_embeddings` must be at least 2, but is {original!r}.")
        return math.sqrt(1 + math.log(factor) / math.log(original))
    above, below = numbers.get("mscale") or 0, numbers.get("mscale_all_dim") or 0
    if not (above and below):  # either alone is ignored
        above, below = 1, 0
    if not all(type(scale) in (int, float) for scale in (above, below)):
        raise ConfigError(f"`mscale` and `mscale_all_dim` must be numbers or null, but are {above!r} and {below!r}.")
    return (0.1 * above * math.log(factor) + 1) / (0.1 * below * math.log(factor) + 1)
