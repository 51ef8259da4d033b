"""Which tensor of a file goes where in a part: the rules of loading, without a framework's tensors.

A backend hands in the shapes of its part and a function that puts an array in its place.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from array_api_compat import array_namespace

from dragoman.checkpoint.keymap import Drop, KeyMap, matches_any
from dragoman.checkpoint.report import LoadReport

__all__ = ["Readable", "fill"]

_DOUBLE = "another name of the same tensor"


class Readable(Protocol):
    """What tensors can be asked of by name."""

    def keys(self) -> Sequence[str]:
        """Return the names of all tensors."""

    def read(self, key: str) -> Any:
        """Return a tensor."""


def fill(
    shapes: Mapping[str, tuple[int, ...]],
    place: Callable[[str, Any], None],
    keymap: KeyMap,
    file: Readable,
    *,
    prefix: str = "",
    optional: Iterable[str] = (),
    may_be_fresh: Iterable[str] = (),
    copies: Iterable[tuple[str, str]] = (),
) -> LoadReport:
    """Move the tensors of a checkpoint into a part.

    Args:
        shapes: The tensors of the part, by our names.
        place: Puts an array where the tensor of that name belongs.
        keymap: Name table of the part.
        file: The open checkpoint.
        prefix: Only names that start with it belong to this part ("encoder.").
        optional: Templates of our tensors that the part may lack although the checkpoint holds them; they are left out.
        may_be_fresh: Templates of our tensors that the checkpoint need not hold.
        copies: Pairs of our tensors; where the checkpoint has no first one, it begins as a copy of the second.

    Returns:
        What came of each tensor. Those named in `fresh` have not been placed.
    """
    report = LoadReport()
    may_be_fresh, optional = tuple(may_be_fresh), tuple(optional)
    loaded: dict[str, tuple[str, str]] = {}  # our name: theirs, mended and as it stands in the file
    for name, incoming in sorted(_spelled(keymap, file, prefix, report).items(), key=lambda item: keymap.rank(item[0])):
        ours = keymap.ours(name)
        if not ours:
            rule = keymap.rule_for(name)
            if not isinstance(rule, Drop):
                report.unexpected.append(incoming)
            elif rule.lost and bool((file.read(incoming) != 0).any()):
                report.lost[incoming] = rule.lost
            else:
                report.dropped[incoming] = rule.why
        elif all(our not in shapes for our in ours):
            if all(matches_any(optional, our) for our in ours):
                report.dropped[incoming] = "the configuration does not ask for it"
            else:
                report.unexpected.append(incoming)
        elif loaded.keys() >= set(ours):
            report.dropped[incoming] = _DOUBLE
        else:
            for our, array in keymap.read(name, file.read(incoming)):
                _place(shapes, place, our, array, report)
            loaded.update(dict.fromkeys(ours, (name, incoming)))
    for our, source in copies:
        if our in shapes and our not in loaded and source in loaded:
            name, incoming = loaded[our] = loaded[source]
            array = dict(keymap.read(name, file.read(incoming)))[source]
            _place(shapes, place, our, array_namespace(array).asarray(array, copy=True), report)
    absent = [name for name in shapes if name not in loaded and name not in report.misshapen]
    report.fresh = [name for name in absent if matches_any(may_be_fresh, name)]
    report.missing = [name for name in absent if not matches_any(may_be_fresh, name)]
    return report


def _spelled(keymap: KeyMap, file: Readable, prefix: str, report: LoadReport) -> dict[str, str]:
    """Map mended names to the names in the file; where several names mean one tensor, the plainest spelling wins."""
    found: dict[str, str] = {}
    for incoming in sorted(file.keys()):
        if not incoming.startswith(prefix):
            continue
        bare = incoming[len(prefix) :]
        name = keymap.canonical_name(bare)
        if name not in found:
            found[name] = incoming
        elif name == bare:
            report.dropped[found[name]] = _DOUBLE
            found[name] = incoming
        else:
            report.dropped[incoming] = _DOUBLE
    return found


def _place(
    shapes: Mapping[str, tuple[int, ...]],
    place: Callable[[str, Any], None],
    name: str,
    array: Any,
    report: LoadReport,
) -> None:
    if name not in shapes:
        report.unexpected.append(name)
    elif tuple(array.shape) != tuple(shapes[name]):
        report.misshapen[name] = (tuple(array.shape), tuple(shapes[name]))
    else:
        place(name, array)
        report.loaded.append(name)
