"""Options as fields of dataclasses, each stated once: the command's flags and the tables of `docs/cli.md` follow."""

from collections.abc import Iterator
from dataclasses import field, fields
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


def option(
    default: Any,
    text: str,
    *,
    group: str,
    unset: str = "",
    flag: str | None = None,
    short: str | None = None,
    at_least: int | None = None,
) -> Any:
    """Return the dataclass field of an option.

    Args:
        default: Its default.
        text: Its help: sentences in Markdown.
        group: The heading that its flag is listed under.
        unset: What `None` means, for an option that is `None` by default.
        flag: Name of its flag, if that is not the name of the field.
        short: Another name of its flag, such as one letter.
        at_least: Minimum of a number; see `too_small`.
    """
    metadata = {"text": text, "group": group, "unset": unset, "flag": flag, "short": short, "at_least": at_least}
    return field(default=default, metadata=metadata)


def documented(options: _Class) -> _Class:
    """Add the help of each field to the docstring of a dataclass."""
    entries = "\n".join(f"    {one.name}: {one.metadata['text']}" for one in fields(options))
    options.__doc__ = f"{options.__doc__}\n\nAttributes:\n{entries}\n"
    return options


def too_small(options: Any) -> Iterator[str]:
    """Yield an error message for each number below its minimum."""
    for one in fields(options):
        minimum, value = one.metadata["at_least"], getattr(options, one.name)
        if minimum is not None and value is not None and value < minimum:
            yield f"`{one.name}` must be at least {minimum}, but is {value}."
