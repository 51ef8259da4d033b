"""Loading the tensors of a file into a module, by the rules of its name table; frameworks add `place`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from array_api_compat import array_namespace

from dragoman.checkpoint.keymap import Drop, KeyMap, matches_any
from dragoman.checkpoint.report import LoadReport

DOUBLE = "another name of the same tensor"
"""Why the second of two names of a tensor is dropped."""


class Readable(Protocol):
    """Tensors by name."""

    def keys(self) -> Sequence[str]:
        """Return the names of all tensors."""

    def read(self, key: str) -> Any:
        """Return a tensor."""


class OtherTensors:
    """The tensors of a file whose names have none of these prefixes: those that belong to no part."""

    def __init__(self, file: Readable, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes
        self._file = file

    def keys(self) -> list[str]:
        """Return their names."""
        return [name for name in self._file.keys() if not name.startswith(self._prefixes)]  # noqa: SIM118

    def read(self, key: str) -> Any:
        """Return a tensor."""
        return self._file.read(key)


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
    check_finite: bool = True,
    any_shape: bool = False,
) -> LoadReport:
    """Load the tensors of a checkpoint into a module.

    Args:
        shapes: The tensors of the module, by our names.
        place: Gives the tensor of a name its value.
        keymap: Name table of the module.
        file: The open checkpoint.
        prefix: The prefix of the module's names in the file ("encoder."); other names are ignored.
        optional: Templates of our tensors that the module may lack although the checkpoint holds them; they are
            dropped.
        may_be_fresh: Templates of our tensors that the checkpoint need not hold.
        copies: Pairs of our tensors; where the checkpoint lacks the first, it starts as a copy of the second.
        check_finite: List tensors with NaN or infinity in the report.
        any_shape: Count tensors of another shape as fresh, too.

    Returns:
        The outcome for each tensor. Those in `fresh` have no value yet.
    """
    report = LoadReport()
    may_be_fresh, optional = tuple(may_be_fresh), tuple(optional)
    loaded: dict[str, tuple[str, str]] = {}  # our name: their canonical name, the name in the file
    for name, incoming in sorted(
        _canonical_names(keymap, file, prefix, report).items(), key=lambda item: keymap.rank(item[0])
    ):
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
                report.dropped[incoming] = "the configuration does not use it"
            else:
                report.unexpected.append(incoming)
        elif loaded.keys() >= set(ours):
            report.dropped[incoming] = DOUBLE
        else:
            for our, array in keymap.read(name, file.read(incoming)):
                _place(shapes, place, our, array, report)
                if check_finite and our in shapes and not all_finite(array):
                    report.not_finite.append(our)
            loaded.update(dict.fromkeys(ours, (name, incoming)))
    for our, source in copies:
        if our in shapes and our not in loaded and source in loaded:
            name, incoming = loaded[our] = loaded[source]
            array = dict(keymap.read(name, file.read(incoming)))[source]
            _place(shapes, place, our, array_namespace(array).asarray(array, copy=True), report)
    absent = [name for name in shapes if name not in loaded and name not in report.misshapen]
    report.fresh = [name for name in absent if matches_any(may_be_fresh, name)]
    report.fresh += report.misshapen if any_shape else ()
    report.missing = [name for name in absent if not matches_any(may_be_fresh, name)]
    return report


def all_finite(array: Any) -> bool:
    """Return whether an array of NumPy or PyTorch has neither NaN nor infinity.

    A sum is finite only if all of its terms are, and it reads the numbers once and writes none. Only where the sum
    overflows are the numbers compared one by one.
    """
    xp = array_namespace(array)
    if isinstance(array, np.ndarray):
        if array.dtype.kind != "f":
            return True
        if array.dtype.itemsize == 2:  # NumPy adds float16 slowly; its exponent is all ones for NaN and infinity
            return bool(((array.view(np.uint16) & 0x7C00) != 0x7C00).all())
    elif not array.dtype.is_floating_point:
        return True
    with np.errstate(all="ignore"):
        return bool(np.isfinite(float(xp.sum(array)))) or bool(xp.all(xp.isfinite(array)))


def _canonical_names(keymap: KeyMap, file: Readable, prefix: str, report: LoadReport) -> dict[str, str]:
    """Map canonical names to the names in the file; of several names of one tensor, the canonical one wins."""
    found: dict[str, str] = {}
    for incoming in sorted(file.keys()):
        if not incoming.startswith(prefix):
            continue
        bare = incoming[len(prefix) :]
        name = keymap.canonical_name(bare)
        if name not in found:
            found[name] = incoming
        elif name == bare:
            report.dropped[found[name]] = DOUBLE
            found[name] = incoming
        else:
            report.dropped[incoming] = DOUBLE
    return found


def _place(
    shapes: Mapping[str, tuple[int, ...]], place: Callable[[str, Any], None], name: str, array: Any, report: LoadReport
) -> None:
    if name not in shapes:
        report.unexpected.append(name)
    elif tuple(array.shape) != tuple(shapes[name]):
        report.misshapen[name] = (tuple(array.shape), tuple(shapes[name]))
    else:
        place(name, array)
        report.loaded.append(name)
