"""One form of every flag, before the parser sees it.

Both the forms of `whisper` (`--output_format`, `--vad_filter True`), which are ours, and those of Unix
(`--output-format`, `--vad-filter`) are accepted.
"""

from collections.abc import Iterator, Sequence
from typing import Any

_BOOLEANS = {"true": True, "false": False}

# Switches of `whisper-ctranslate2` that may stand alone; here they have a value, to tell `False` from nothing.
_TRUE_ALONE = ("--batched", "--print_colors")


def normalise(command: Any, arguments: Sequence[str]) -> list[str]:
    """Return `arguments` with underscores in the names of flags, and `--flag True` or `--flag False` as plain switches.

    Arguments after a bare `--` are files and stay as they are.

    Args:
        command: The parser's group of commands, whose switches may be followed by a truth value.
        arguments: As the user typed them.
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
        if name in _TRUE_ALONE and not equals and not (rest and rest[0].lower() in _BOOLEANS):
            yield f"{name}=True"
            continue
        if name not in switches:
            yield name + equals + value
            continue
        if not equals and rest and rest[0].lower() in _BOOLEANS:
            value = rest.pop(0)
        if _BOOLEANS.get(value.lower(), True):
            yield name
        elif (opposite := f"--no_{name[2:]}") in switches:
            yield opposite
        # A switch without an opposite is off by default: `--switch False` is the same as leaving it out.
