"""Modules that a subclass adds to a part or a whole model (a head for CTC): built, saved and loaded with it."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dragoman.checkpoint.filling import Readable
from dragoman.checkpoint.keymap import Rename
from dragoman.checkpoint.report import LoadReport
from dragoman.model.backend import ModelPart
from dragoman.model.names import keymap_of


def built_empty(cls: Callable[..., Any], config: Any) -> Any:
    """Return a module of a class without values, or with random ones where a subclass takes only a configuration."""
    arguments = inspect.signature(cls).parameters.values()
    if any(argument.name == "empty" or argument.kind is argument.VAR_KEYWORD for argument in arguments):
        return cls(config, empty=True)
    return cls(config)


def added_to_model(names: Iterable[str]) -> list[str]:
    """Return those of our names of a whole model's tensors that belong to none of its three parts."""
    return [name for name in names if not name.startswith(("encoder.", "decoder.", "bridge."))]


def added_to_part(part: ModelPart, names: Iterable[str]) -> list[str]:
    """Return those of our names of a part's tensors that its family does not know."""
    table = keymap_of(part)
    known = {rule.theirs for rule in table.rules if isinstance(rule, Rename)}
    return [
        rule.theirs for rule in table.extended(names).rules if isinstance(rule, Rename) and rule.theirs not in known
    ]


def fill_added(
    tensors: Mapping[str, Any], place: Callable[[str, Any], None], names: Sequence[str], file: Readable | None = None
) -> LoadReport:
    """Fill the tensors of modules that a subclass adds to a model; those that a checkpoint lacks keep their values.

    Args:
        tensors: All tensors of the model, by our names.
        place: Gives the tensor of a name its value.
        names: Those that the subclass adds.
        file: The open checkpoint; without it all keep their values.
    """
    report, present = LoadReport(), set() if file is None else set(file.keys())
    for name in names:
        array = file.read(name) if file is not None and name in present else tensors[name]
        if tuple(array.shape) != tuple(tensors[name].shape):
            report.misshapen[name] = tuple(array.shape), tuple(tensors[name].shape)
            continue
        place(name, array)
        (report.loaded if name in present else report.fresh).append(name)
    return report
