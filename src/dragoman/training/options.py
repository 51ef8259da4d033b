"""The fields of a training configuration: type, default, limits and help, each stated once."""

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from dragoman.errors import ConfigError


def option(default: Any, text: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Return the dataclass field of an option.

    Args:
        default: Its default.
        text: Its help, in Markdown.
        low: Minimum of a number.
        high: Maximum of a number.
    """
    metadata = {"text": text, "low": low, "high": high}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class Part:
    """A part of a configuration; values are checked, and turned into the types of their fields."""

    def __post_init__(self) -> None:
        part = type(self).__name__.removesuffix("Options").lower()
        for one in fields(self):
            setattr(self, one.name, checked(f"{part}.{one.name}", one, getattr(self, one.name)))


def checked(name: str, one: Field[Any], value: Any) -> Any:
    """Return the value of an option in the type of its field: `1e-4` as YAML reads it, a string, becomes a number.

    Raises:
        ConfigError: If it has another type, or is out of range.
    """
    kinds = get_args(one.type) if get_origin(one.type) in (Union, UnionType) else (one.type,)
    for kind in kinds:
        found = _as(kind, value)
        if found is not _UNFIT:
            _check_range(name, one, found)
            return found
    allowed = " or ".join(_described(kind) for kind in kinds)
    raise ConfigError(f"`{name}` must be {allowed}, but is {value!r:.80}.")


_UNFIT = object()


def _as(kind: Any, value: Any) -> Any:
    """Return `value` as one of `kind`, or `_UNFIT`."""
    if kind in (None, NoneType):
        return None if value is None or value == "none" else _UNFIT
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else _UNFIT
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower(), _UNFIT)
    if kind in (int, float):
        return _number(kind, value)
    if get_origin(kind) is list:
        listed = [_as(get_args(kind)[0], item) for item in value] if isinstance(value, list | tuple) else [_UNFIT]
        return _UNFIT if _UNFIT in listed else listed
    if get_origin(kind) is dict:
        return dict(value) if isinstance(value, Mapping) else _UNFIT
    return str(value) if isinstance(value, str | os.PathLike) else _UNFIT


def _number(kind: type[int] | type[float], value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _UNFIT
    try:
        found = float(value)
    except ValueError:
        return _UNFIT
    if found != found or (kind is int and not found.is_integer()):
        return _UNFIT
    return int(value) if kind is int and isinstance(value, int) else kind(found)


def _check_range(name: str, one: Field[Any], value: Any) -> None:
    low, high = one.metadata["low"], one.metadata["high"]
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if low is not None and number < low:
            raise ConfigError(f"`{name}` must be at least {low:g}, but is {number}.")
        if high is not None and number > high:
            raise ConfigError(f"`{name}` must be at most {high:g}, but is {number}.")


def _described(kind: Any) -> str:
    if kind in (None, NoneType):
        return "none"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) is list:
        return f"a list, each item {_described(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "a mapping of names to values"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[kind]
