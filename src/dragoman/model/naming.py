"""Both names of every tensor: ours, and those of `transformers`, from the same tables that read checkpoints.

Not here: reading and writing tensors by these names (`load`, `save`), and modules (`torch.naming`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.filling import DOUBLE
from dragoman.checkpoint.keymap import Drop, KeyMap, Rename, Rule, Split
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import ConfigError, did_you_mean
from dragoman.model.names import bridge_keys, keymap_of, saved_prefixes

_TABLE = "embed.tokens.weight"  # which a tied head shares


@dataclass(frozen=True)
class Stored:
    """A tensor of `transformers`: which of ours it is.

    Attributes:
        ours: Our names: several for a fused tensor.
        rule: The rule of the table, without the prefixes of a whole model.
    """

    ours: tuple[str, ...]
    rule: Rule

    def difference(self, axes: int) -> str:
        """Return how a tensor of `axes` axes is stored differently there; empty if it is the same tensor."""
        if len(self.ours) > 1:
            return "fused there"
        if isinstance(self.rule, Split | Rename) and self.rule.transpose and axes == 2:
            return "stored transposed there, as [in, out]"
        return "a matrix of one row there" if isinstance(self.rule, Rename) and self.rule.row else ""


@dataclass(frozen=True)
class TensorNames:
    """The names of all tensors of a part or a whole model.

    Attributes:
        ours: Our names.
        theirs: By their names in `transformers`, what they are here. A tied head is listed, as in its state dict.
    """

    ours: tuple[str, ...]
    theirs: Mapping[str, Stored]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield each name of ours with the name of that tensor in `transformers`, in our order.

        A tensor that is fused there shares its name with others; one that `transformers` lacks keeps ours.
        """
        names: dict[str, str] = {}
        for theirs, stored in self.theirs.items():
            if isinstance(stored.rule, Rename | Split):
                for ours in stored.ours:
                    names.setdefault(ours, theirs)
        yield from ((ours, names.get(ours, ours)) for ours in self.ours)

    def same(self) -> Iterator[str]:
        """Yield the names of ours of tensors that are the same there: neither fused nor transposed."""
        for stored in self.theirs.values():
            if not stored.difference(axes=2):
                yield stored.ours[0]

    def modules(self) -> dict[str, str]:
        """Return the modules of ours that are one module in `transformers`, or a part of a fused one, with its name."""
        inside: dict[str, list[str]] = {}
        sizes: dict[str, int] = {}
        found: dict[str, str] = {}
        for ours, theirs in self.pairs():
            found[ours.rpartition(".")[0]] = theirs.rpartition(".")[0]
            for path in _ancestors(ours):
                inside.setdefault(path, []).append(theirs)
            for path in _ancestors(theirs):
                sizes[path] = sizes.get(path, 0) + 1
        exact: dict[str, str] = {}  # a place there may be several nested ones here: the innermost is it
        for path, names in inside.items():
            common = _common_path(names)
            if path not in found and common not in found.values() and sizes.get(common) == len(names):
                exact[common] = path
        heads = {
            stored.ours[0].removesuffix(_TABLE) + "head": theirs.removesuffix(".weight")
            for theirs, stored in self.theirs.items()
            if isinstance(stored.rule, Drop) and stored.ours[0].endswith(_TABLE) and theirs.endswith(".weight")
        }
        return {**heads, **{path: common for common, path in exact.items()}, **found}

    def below(self, path: str) -> dict[str, Stored]:
        """Return what lies below a path of `transformers`, by the rest of their names."""
        start = f"{path}."
        return {name.removeprefix(start): stored for name, stored in self.theirs.items() if name.startswith(start)}

    def chosen(self, patterns: Iterable[str]) -> dict[str, str]:
        """Return the tensors that patterns choose, ours with their names in `transformers`.

        Args:
            patterns: Names, beginnings of names up to a dot, or names with `*` and `?`; of either naming.

        Raises:
            ConfigError: If a pattern chooses none.
        """
        names = dict(self.pairs())
        found: dict[str, str] = {}
        for pattern in patterns:
            own = {ours: theirs for ours, theirs in names.items() if _fits(pattern, ours) or _fits(pattern, theirs)}
            if not own:
                near = did_you_mean(pattern, {*names, *names.values()})
                raise ConfigError(
                    f"No parameter is called {pattern!r}, in our names or in those of transformers.{near} "
                    "model.hf_named_parameters() lists them; * stands for any characters."
                )
            found |= own
        return {ours: names[ours] for ours in names if ours in found}


def _ancestors(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _common_path(names: list[str]) -> str:
    first, last = min(names).split("."), max(names).split(".")
    count = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return ".".join(first[:count] if len(names) > 1 else first[:-1])


def _fits(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)


def sections_of(module: Any) -> tuple[tuple[str, str, KeyMap], ...]:
    """Return for a part or a whole model our prefixes, those of `transformers`, and the tables of what follows."""
    if not isinstance(module.config, SpeechEncoderDecoderConfig):
        return (("", "", keymap_of(module)),)
    encoder, decoder = saved_prefixes(module.config)
    return (
        ("encoder.", encoder, keymap_of(module.encoder)),
        ("decoder.", decoder, keymap_of(module.decoder)),
        ("bridge.", "", bridge_keys(module.config)),
    )


def tensor_names(module: Any, ours: Collection[str]) -> TensorNames:
    """Return both names of the tensors `ours` of a part or a whole model."""
    theirs: dict[str, Stored] = {}
    for prefix, start, keymap in sections_of(module):
        own = (name.removeprefix(prefix) for name in ours if name.startswith(prefix))
        for name, (rule, parts) in keymap.stored(own).items():
            theirs[start + name] = Stored(tuple(prefix + part for part in parts), rule)
    return TensorNames(tuple(ours), theirs)


def loading_info(module: Any, ours: Collection[str], report: LoadReport) -> dict[str, Any]:
    """Return a report as `output_loading_info` of `transformers` gives it: sets of their names.

    Args:
        module: The part or the model that was loaded.
        ours: Our names of its tensors.
        report: What was done with each.

    Returns:
        `missing_keys`, `unexpected_keys`, `mismatched_keys` (name, shape in the file, shape here) and `error_msgs`.
    """
    names = dict(tensor_names(module, ours).pairs())
    left_out = {name for name, why in report.dropped.items() if why != DOUBLE}
    return {
        "missing_keys": {names[name] for name in report.fresh if name not in report.misshapen},
        "unexpected_keys": {*left_out, *report.lost},
        "mismatched_keys": {(names[name], *shapes) for name, shapes in report.misshapen.items()},
        "error_msgs": [],
    }


def first_words(module: Any) -> frozenset[str]:
    """Return the words with which names of a part or a whole model begin in `transformers`."""
    return frozenset(
        (start + rule.theirs).partition(".")[0] for _, start, keymap in sections_of(module) for rule in keymap.rules
    )
