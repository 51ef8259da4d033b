"""Invertible rules that map the tensor names of a checkpoint to ours, readable as a table.

A name is a list of words between dots. In a template `{i}` matches one number and `*` one or more words; the matches
on one side fill the template on the other:

    Rename("encoder.layers.{i}.attention.q_proj.*",  "stack.layers.{i}.self_attn.q_proj.*")
    Split("h.{i}.attn.c_attn.*",                      into=QKV, transpose=True)
    Drop("pooler.*",                                  why="a decoder does not pool")

Every incoming name matches exactly one rule, and the inverse of the same rules is used for saving, so a round trip is
exact. If two rules lead to the same tensor of ours, the first in the table wins when reading, and both names are saved.
Not here: finding files (`layout`), reading them (`tensors`), and the outcome (`report`).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from dragoman.errors import CheckpointError


@dataclass(frozen=True)
class Rename:
    """One tensor of theirs is one of ours; `transpose` converts a stored `[in, out]` matrix to our `[out, in]`.

    With `row` theirs is a matrix of one row, `[1, n]`, and ours is `[n]`.
    """

    theirs: str
    ours: str
    transpose: bool = False
    row: bool = False


@dataclass(frozen=True)
class Split:
    """One fused tensor of theirs is several of ours, equal parts along the output axis.

    With `groups` the rows are divided into this many equal groups, each with a share of every part (GPT-NeoX: head by
    head). `shares` are the relative sizes of the parts (StarCoder: many queries, one key).
    """

    theirs: str
    into: tuple[str, ...]
    transpose: bool = False
    groups: int = 1
    shares: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drop:
    """A tensor of theirs that the part does not need.

    `lost` is the remedy to report for a tensor that may be trained, if its numbers are not all zero. `same_as` is our
    name of the tensor that this is another name of (a tied head). `saved` gives the numbers that files hold
    nevertheless, because `transformers` reports a tensor that it never uses as missing.
    """

    theirs: str
    why: str
    lost: str = ""
    same_as: str = ""
    saved: Callable[[], np.ndarray[Any, Any]] | None = field(default=None, compare=False)


Rule = Rename | Split | Drop


@dataclass(frozen=True)
class Alias:
    """Another spelling of a name, corrected before the rules apply."""

    spelled: str
    means: str


def match(template: str, name: str) -> dict[str, str] | None:
    """Return what `{i}` and `*` match if `name` fits the `template`, else `None`."""
    wanted, words = template.split("."), name.split(".")
    if "*" not in wanted:
        return _match_words(wanted, words)
    star = wanted.index("*")
    rest = len(wanted) - star - 1
    if len(words) < star + 1 + rest:
        return None
    found = _match_words(wanted[:star] + wanted[star + 1 :], words[:star] + words[len(words) - rest :])
    if found is not None:
        found["*"] = ".".join(words[star : len(words) - rest])
    return found


def _match_words(wanted: Sequence[str], words: Sequence[str]) -> dict[str, str] | None:
    if len(wanted) != len(words):
        return None
    found = {}
    for want, word in zip(wanted, words, strict=True):
        if want.startswith("{"):
            if not (word.isascii() and word.isdigit()):
                return None
            found[want] = word
        elif want != word:
            return None
    return found


def matches_any(templates: Iterable[str], name: str) -> bool:
    """Return whether `name` fits one of the templates."""
    return any(match(template, name) is not None for template in templates)


def fill(template: str, found: Mapping[str, str]) -> str:
    """Return a template filled with the matches of another template."""
    return ".".join(found.get(word, word) for word in template.split("."))


class KeyMap:
    """The rules of one part of one model.

    Args:
        rules: The table.
        aliases: Other spellings, tried in order, each at most once.
        prefixes: Prefixes that some files have on every name and others omit ("wav2vec2.", "bert.").
    """

    def __init__(self, rules: Sequence[Rule], aliases: Sequence[Alias] = (), prefixes: Sequence[str] = ()) -> None:
        self.rules = tuple(rules)
        self.aliases = tuple(aliases)
        self._prefixes = tuple(prefixes)
        self._by_word: dict[str, list[Rule]] = defaultdict(list)  # rules by the first word of their template
        for rule in self.rules:
            self._by_word[rule.theirs.partition(".")[0]].append(rule)

    def rule_for(self, name: str) -> Rule | None:
        """Return the rule of an incoming canonical name, `None` if there is none.

        Raises:
            CheckpointError: If two rules match the name, which is an error in the table.
        """
        candidates = self._by_word.get(name.partition(".")[0], []) + self._by_word.get("*", [])
        found = [rule for rule in candidates if match(rule.theirs, name) is not None]
        if len(found) > 1:
            raise CheckpointError(
                f"The tensor name {name!r} matches several rules: {found}. Only one rule per name is allowed."
            )
        return found[0] if found else None

    def canonical_name(self, name: str) -> str:
        """Return an incoming name in the spelling of the rules: aliases applied, base prefixes added or removed."""
        for alias in self.aliases:
            found = match(alias.spelled, name)
            if found is not None:
                name = fill(alias.means, found)
        if self.rule_for(name) is not None:
            return name
        for prefix in self._prefixes:
            candidate = name[len(prefix) :] if name.startswith(prefix) else prefix + name
            if self.rule_for(candidate) is not None:
                return candidate
        return name

    def rank(self, name: str) -> int:
        """Return the position in the table of an incoming name's rule; names without a rule come last."""
        rule = self.rule_for(name)
        return len(self.rules) if rule is None else self.rules.index(rule)

    def ours(self, name: str) -> tuple[str, ...]:
        """Return our names for an incoming canonical name: none if it is dropped or unknown."""
        rule = self.rule_for(name)
        if rule is None or isinstance(rule, Drop):
            return ()
        found = match(rule.theirs, name) or {}
        return tuple(fill(template, found) for template in _targets(rule))

    def read(self, name: str, array: Any) -> list[tuple[str, Any]]:
        """Return the `(our name, array)` pairs of an incoming tensor, none if it is dropped.

        Parts of a fused tensor are views of it.
        """
        rule = self.rule_for(name)
        names = self.ours(name)
        if not names:
            return []
        if isinstance(rule, Rename | Split) and rule.transpose and array.ndim == 2:
            array = array.T
        if isinstance(rule, Rename) and rule.row and array.shape[:1] == (1,):
            array = array[0]
        if len(names) == 1:
            return [(names[0], array)]
        if not array.ndim:
            array = array[None]
        shares: tuple[int, ...] = (1,) * len(names)
        if isinstance(rule, Split):
            array = _regrouped(array, rule.groups, len(names))
            shares = rule.shares or shares
        size = -(-array.shape[0] // sum(shares))  # rounded up: an uneven split gives a part of a wrong shape
        ends = [size * end for end in accumulate(shares, initial=0)]
        return [(ours, array[start:end]) for ours, (start, end) in zip(names, pairwise(ends), strict=True)]

    def write(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Return tensors of ours under their names, the exact inverse of `read`.

        Raises:
            CheckpointError: If a name of ours has no rule, or a part of a fused tensor is missing.
        """
        out: dict[str, Any] = {}
        for theirs, rule, found in (inverse for name in tensors for inverse in self._inverses(name)):
            if theirs in out:
                continue
            parts = [fill(template, found) for template in _targets(rule)]
            missing = [part for part in parts if part not in tensors]
            if missing:
                raise CheckpointError(f"The tensor {theirs!r} cannot be written: {', '.join(missing)} is missing.")
            array = tensors[parts[0]]
            if len(parts) > 1:
                array = array_namespace(array).concat([tensors[part] for part in parts], axis=0)
            if isinstance(rule, Split):
                array = _regrouped(array, len(parts), rule.groups)
            if isinstance(rule, Rename) and rule.row:
                array = array[None]
            out[theirs] = array.T if rule.transpose and array.ndim == 2 else array
        return out

    def writable(self, names: Collection[str]) -> set[str]:
        """Return the names of ours that `write` has a rule for, without those whose fused tensor lacks another part."""
        found = set()
        for name in names:
            inverses = self._found_inverses(name)
            parts = {fill(template, words) for _, rule, words in inverses for template in _targets(rule)}
            if inverses and all(part in names for part in parts):
                found.add(name)
        return found

    def unused(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the tensors that a whole file holds although the part does not need them."""
        rules = (rule for rule in self.rules if isinstance(rule, Drop))
        return {rule.theirs: rule.saved() for rule in rules if rule.saved is not None}

    def extended(self, names: Iterable[str]) -> "KeyMap":
        """Return the table with rules for those of our names that have none: they are the same in both namings."""
        added = [name for name in names if not self._found_inverses(name)]
        kept = (r for r in self.rules if not isinstance(r, Drop) or all(match(r.theirs, n) is None for n in added))
        return KeyMap((*kept, *(Rename(name, name) for name in added)), self.aliases, self._prefixes)

    def stored(self, names: Iterable[str]) -> dict[str, tuple[Rule, tuple[str, ...]]]:
        """Return their names for tensors of ours, each with its rule and the tensors of ours that it is made of.

        In the order of the table. A name that a rule drops because it is another name of a tensor of ours is listed;
        a fused tensor of which a part is not in `names` is not.
        """
        ours = dict.fromkeys(names)
        found: dict[str, tuple[Rule, tuple[str, ...]]] = {}
        for rule in self.rules:
            if isinstance(rule, Drop):
                if rule.same_as in ours:
                    found[rule.theirs] = rule, (rule.same_as,)
                continue
            for name in ours:
                words = match(_targets(rule)[0], name)
                if words is not None:
                    parts = tuple(fill(template, words) for template in _targets(rule))
                    if ours.keys() >= set(parts):
                        found[fill(rule.theirs, words)] = rule, parts
        return found

    def theirs(self, name: str) -> str:
        """Return the name under which a tensor of ours is saved, the first if there are several."""
        return self._inverses(name)[0][0]

    def _inverses(self, name: str) -> list[tuple[str, Rename | Split, dict[str, str]]]:
        inverses = self._found_inverses(name)
        if not inverses:
            raise CheckpointError(f"No rule gives the name under which the tensor {name!r} is saved.")
        return inverses

    def _found_inverses(self, name: str) -> list[tuple[str, Rename | Split, dict[str, str]]]:
        return [
            (fill(rule.theirs, found), rule, found)
            for rule in self.rules
            if not isinstance(rule, Drop)
            for template in _targets(rule)
            if (found := match(template, name)) is not None
        ]


def _regrouped(array: Any, outer: int, inner: int) -> Any:
    """Reorder rows from `outer` groups of `inner` blocks to `inner` groups of `outer` blocks."""
    rows, *rest = array.shape
    if outer == 1 or inner == 1 or rows % (outer * inner):  # an uneven split has a wrong shape anyway
        return array
    return array.reshape(outer, inner, -1, *rest).swapaxes(0, 1).reshape(rows, *rest)


def _targets(rule: Rename | Split) -> tuple[str, ...]:
    return (rule.ours,) if isinstance(rule, Rename) else rule.into
