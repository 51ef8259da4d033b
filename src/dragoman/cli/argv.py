"""One spelling for every flag before the parser sees it.

Users come from `whisper` (`--output_format`, `--vad_filter True`) and from Unix (`--output-format`, `--vad-filter`);
both write what they are used to. Our own spelling is whisper's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["normalise"]

_BOOLEANS = {"true": True, "false": False}


def normalise(command: Any, arguments: Sequence[str]) -> list[str]:
    """Return `arguments` with underscores in the names of flags, and `--flag True` or `--flag False` as plain switches.

    What follows a bare `--` is left alone: those are files.

    Args:
        command: The parser's group of commands; its switches are what may be followed by a truth value.
        arguments: What the user typed.
    """
    switches = {
        name
        for subcommand in command.commands.values()
        for parameter in subcommand.params
        if getattr(parameter, "is_flag", False)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    return list(_normalised(switches, list(arguments)))


def _normalised(switches: set[str], rest: list[str]) -> Iterator[str]:
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            yield argument
            yield from rest
            return
        if not argument.startswith("--"):
            yield argument
            continue
        name, equals, value = argument.partition("=")
        name = "--" + name[2:].replace("-", "_")
        if name not in switches:
            yield name + equals + value
            continue
        if not equals and rest and rest[0].lower() in _BOOLEANS:
            value = rest.pop(0)
        if _BOOLEANS.get(value.lower(), True):
            yield name
        elif (opposite := f"--no_{name[2:]}") in switches:
            yield opposite
        # A switch that is off unless it is named has no opposite: naming it as False is leaving it out.
