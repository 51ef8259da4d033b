"""Whether a value read from JSON has the type of a field, and that type in words."""

import types
import typing
from dataclasses import fields
from typing import Any


def types_of(cls: Any) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value read from JSON has the type of a field; integers pass for floats, but not booleans."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def in_words(hint: Any) -> str:
    """Return a type as words: "a whole number or null"."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return {"int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false"}.get(
            hint.__name__, "null" if hint is type(None) else hint.__name__
        )
    if typing.get_origin(hint) in (list, tuple):
        return f"a list in which each item is {in_words(typing.get_args(hint)[0])}"
    return " or ".join(in_words(option) for option in typing.get_args(hint)) or str(hint)
