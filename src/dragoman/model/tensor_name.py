"""`TensorName`: our name of a parameter or a module, which also answers to its name in `transformers`.

Scripts choose parameters and modules by parts of names (`"LayerNorm.weight" in name`, PEFT's `key.endswith(".query")`),
and then take names apart (`name.split(".")[4]`). In our names alone they would find nothing, or others, silently.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, Self, SupportsIndex

Pairs = Callable[[], Iterable[tuple[str, str]]]


class NamePairs:
    """The two names of all parameters and modules of a model, and which naming a script means.

    Args:
        tensors: Returns our names of the parameters with those in `transformers`; called when a name is tested.
        modules: The same for the modules. Names of modules are looked up as places, and always split as ours.
        same: Returns our names of the parameters that are the same tensors there, neither fused nor transposed.
        parts: Returns the modules of ours that make up what a test chooses among the modules in `transformers` that
            are several here, where there is such a module.
        prefix: Of both names, where the model is inside another module.
    """

    def __init__(
        self,
        tensors: Pairs,
        modules: Pairs,
        same: Callable[[], Iterable[str]],
        parts: Callable[[Callable[[str], bool]], Collection[str]],
        prefix: str = "",
    ) -> None:
        self._tensors, self._modules, self._same, self._parts, self._prefix = tensors, modules, same, parts, prefix
        self._decided: dict[tuple[str, Any], bool] = {}
        self._several: dict[Any, Collection[str]] = {}

    @cached_property
    def splittable(self) -> Collection[str]:
        """Our names that are split as those in `transformers`."""
        return {self._prefix + ours for ours in self._same()}

    @cached_property
    def all(self) -> Mapping[str, str]:
        """By our names of parameters and modules, those in `transformers`."""
        return {self._prefix + ours: self._prefix + theirs for ours, theirs in (*self._modules(), *self._tensors())}

    @cached_property
    def names(self) -> Collection[str]:
        """The names in `transformers`."""
        return set(self.all.values())

    def theirs(self, name: str) -> str:
        """Return the name in `transformers`; of what is inside a replaced layer, with that of the layer; else ours."""
        path, rest = name, ""
        while path:
            if path in self.all:
                return self.all[path] + rest
            path, dot, last = path.rpartition(".")
            rest = dot + last + rest
        return name

    def several(self, ending: Any) -> Collection[str]:
        """Return our modules that make up one in `transformers` whose name ends so, if it is no module here.

        PEFT's `modules_to_save=["cls"]` would find none, or one of them, silently.
        """
        if ending not in self._several:
            found: Collection[str] = ()
            if not any(theirs.endswith(ending) for theirs in self.all.values()):
                found = {self._prefix + name for name in self._parts(lambda path: f".{path}".endswith(ending))}
            self._several[ending] = found
        return self._several[ending]

    def means_theirs(self, method: str, text: Any, test: Callable[[str], bool]) -> bool:
        """Return whether a test of names is about those of `transformers`: it is if it holds for one of them.

        Where it then chooses others than our names would, a warning says so, once.
        """
        key = method, text
        if key not in self._decided:
            chosen = [ours for ours, theirs in self.all.items() if test(theirs)]
            self._decided[key] = bool(chosen)
            other = [ours for ours in self.all if test(ours)]
            if chosen and other and chosen != other:
                warnings.warn(
                    f"{text!r} chooses {len(chosen)} parameters or modules by the names of transformers "
                    f"(hf_named_parameters) and {len(other)} by dragoman's. The former count; str(name) is "
                    "dragoman's name.",
                    UserWarning,
                    stacklevel=4,
                )
        return self._decided[key]


class TensorName(str):
    """Our name of a parameter or a module.

    `in`, `startswith` and `endswith` test the name in `transformers` if what they look for is in one of these names,
    and else ours; it is equal to both names, but a set or a dictionary finds ours alone. The name of a parameter that
    was found so, and is the same tensor there, is split, cut and sliced as its name in `transformers`. In all else it
    is an ordinary string: our name, which is its place.

    Attributes:
        pairs: The names of all parameters or modules of the model.
        found: Whether a test has found its name in `transformers`.
    """

    __slots__ = ("found", "pairs")
    pairs: NamePairs | None
    found: bool

    def __new__(cls, name: str, pairs: NamePairs | None = None) -> Self:
        own = super().__new__(cls, name)
        own.pairs, own.found = pairs, False
        return own

    def __reduce__(self) -> Any:
        return TensorName, (str(self),)

    @property
    def theirs(self) -> str:
        """The name in `transformers`, ours if it has none."""
        return str(self) if self.pairs is None else self.pairs.theirs(str(self))

    def _test(self, method: str, text: Any, test: Callable[[str], bool]) -> bool:
        if self.pairs is None or not self.pairs.means_theirs(method, text, test):
            return test(str(self))
        holds = test(self.theirs)
        self.found = self.found or holds
        return holds

    def __eq__(self, other: object) -> bool:
        if str.__eq__(self, other) or self.pairs is None or type(other) is not str:
            return str.__eq__(self, other)
        return other in self.pairs.names and other == self.theirs and other not in self.pairs.all

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def _meant(self) -> str:
        is_same = self.found and self.pairs is not None and str(self) in self.pairs.splittable
        return self.theirs if is_same else str(self)

    def __contains__(self, text: object) -> bool:
        return self._test("in", text, lambda name: text in name)  # type: ignore[operator]

    def startswith(self, text: Any, *bounds: Any) -> bool:
        """Return whether the name begins with `text`, or with one of several."""
        if bounds:
            return self._meant().startswith(text, *bounds)
        return self._test("startswith", text, lambda name: name.startswith(text))

    def endswith(self, text: Any, *bounds: Any) -> bool:
        """Return whether the name ends with `text`, or with one of several."""
        if bounds:
            return self._meant().endswith(text, *bounds)
        if self.pairs is not None and (several := self.pairs.several(text)):
            return str(self) in several
        # PEFT asks for ".query", and so also for whole names with a dot before
        return self._test("endswith", text, lambda name: f".{name}".endswith(text))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """Split the name by which it was found."""
        return self._meant().split(sep, maxsplit)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """Split the name by which it was found, from the right."""
        return self._meant().rsplit(sep, maxsplit)

    def partition(self, sep: str) -> tuple[str, str, str]:
        """Split the name by which it was found once."""
        return self._meant().partition(sep)

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        """Split the name by which it was found once, from the right."""
        return self._meant().rpartition(sep)

    def removeprefix(self, prefix: str) -> str:
        """Return the name by which it was found, without a prefix."""
        return self._meant().removeprefix(prefix)

    def removesuffix(self, suffix: str) -> str:
        """Return the name by which it was found, without a suffix."""
        return self._meant().removesuffix(suffix)

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        """Return the name by which it was found, with other text in it."""
        return self._meant().replace(old, new, count)

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        return self._meant()[key]


class PrefixedName(TensorName):
    """The name of a module inside another one (a wrapper); what PyTorch appends for its parameters keeps both names."""

    __slots__ = ()

    def __add__(self, other: str) -> "PrefixedName":
        return PrefixedName(str(self) + other, self.pairs)


class ChildName(str):
    """Our name of a child of a model or a part; what equals no name of ours but one of `transformers` warns, once.

    Attributes:
        theirs: Returns the names of the children in `transformers`.
    """

    __slots__ = ("theirs",)
    theirs: Callable[[], Collection[str]]

    def __new__(cls, name: str, theirs: Callable[[], Collection[str]]) -> Self:
        own = super().__new__(cls, name)
        own.theirs = theirs
        return own

    def __reduce__(self) -> Any:
        return str, (str(self),)

    def __eq__(self, other: object) -> bool:
        if not str.__eq__(self, other) and type(other) is str and other in self.theirs():
            warnings.warn(
                f"No child here is called {other!r}, as in transformers: the module is divided otherwise. Attributes "
                f"lead to it (encoder.{other} or decoder.{other}), and named_parameters() finds it.",
                UserWarning,
                stacklevel=2,
            )
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__
