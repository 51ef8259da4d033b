"""Flags made from dataclasses of options: a parameter whose type is one stands for a flag per field.

Not here: the options themselves (`flags`, `dragoman.transcriber.options`).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from typer import Option
from typer.core import TyperCommand

from dragoman.errors import ConfigError

_NUMBERS, _NUMBER_OR_NONE = "<float,float,…>", "<float|none>"


class CommandWithGroups(TyperCommand):
    """A command whose help lists its flags under the headings of their options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and flags."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                group = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Other")
                groups.setdefault(group, []).append((record[0], record[1].replace("`", "")))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def with_flags(command: Callable[..., int]) -> Callable[..., int]:
    """Replace each parameter of a command that is a dataclass of options by one flag per field.

    A parameter of the type `Annotated[SomeOptions, ("name", …)]` has only the flags of these fields; the other fields
    keep their defaults.
    """
    groups: dict[str, tuple[type, list[Field[Any]]]] = {}
    parameters: list[inspect.Parameter] = []
    signature = inspect.signature(command)
    for parameter in signature.parameters.values():
        kind, names = _options_class(parameter.annotation)
        if kind is None:
            parameters.append(parameter)
            continue
        chosen = [one for one in fields(kind) if names is None or one.name in names]
        groups[parameter.name] = kind, chosen
        parameters += map(_flag, chosen)

    @wraps(command)
    def run(**typed: Any) -> int:
        for name, (kind, chosen) in groups.items():
            typed[name] = kind(**{one.name: _value(one, typed.pop(one.name)) for one in chosen})
        return command(**typed)

    vars(run)["__signature__"] = signature.replace(parameters=parameters)  # what typer makes flags from
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options_class(annotation: Any) -> tuple[Any, Sequence[str] | None]:
    """Return the dataclass that a parameter stands for, if it does, and the names of its fields that are flags."""
    kind, names = (get_args(annotation)[:2]) if get_origin(annotation) is Annotated else (annotation, None)
    return (kind, names) if is_dataclass(kind) else (None, None)


def _flag(one: Field[Any]) -> inspect.Parameter:
    kinds, facts = _kinds(one), one.metadata
    default: Any = one.default
    name = facts["flag"] or one.name
    names = [f"--{name}/--no_{name}" if default is True else f"--{name}", *([facts["short"]] if facts["short"] else [])]
    written = _written_form(one)
    if written is not None:
        kind: Any = str
        default = ",".join(map("{:g}".format, default)) if written is _NUMBERS else str(default)
    else:
        kind = kinds[0] | None if default is None else kinds[0]
    flag = Option(
        *names, help=facts["text"], metavar=written, rich_help_panel=facts["group"], show_default=facts["unset"] or True
    )
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, flag]
    )


def _kinds(one: Field[Any]) -> list[Any]:
    """Return the types of an option; of those that can be typed, the flag takes the first."""
    return list(get_args(one.type)) if isinstance(one.type, UnionType) or NoneType in get_args(one.type) else [one.type]


def _written_form(one: Field[Any]) -> str | None:
    """Return how the values of a flag are written, for options that are no single value of one type."""
    kinds = _kinds(one)
    if Sequence[float] in kinds and str not in kinds:
        return _NUMBERS
    return _NUMBER_OR_NONE if NoneType in kinds and one.default is not None else None


def _value(one: Field[Any], typed: Any) -> Any:
    """Return the value of an option.

    Raises:
        ConfigError: If what was typed is no number.
    """
    written = _written_form(one)
    try:
        if written is _NUMBERS:
            return tuple(float(part) for part in typed.split(","))
        if written is _NUMBER_OR_NONE:
            return None if typed.lower() in ("none", "off") else float(typed)
    except ValueError:
        allowed = "one or more numbers, as in 0,0.2,0.4" if written is _NUMBERS else "a number, or none to turn it off"
        raise ConfigError(f"`{one.name}` must be {allowed}, but is {typed!r}.") from None
    return typed
