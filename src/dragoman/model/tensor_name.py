"""`TensorName`: our name of a parameter, which also answers to its name in `transformers`.

Scripts choose parameters by parts of names (`"LayerNorm.weight" in name`, `name.startswith("encoder.encoder.layers")`).
What they look for is in one naming or the other; in ours alone it would choose nothing, silently.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any


class NamePairs:
    """The two names of all parameters of a model, and which naming a script means.

    Args:
        pairs: Returns our names with those in `transformers`; called when a name is tested.
    """

    def __init__(self, pairs: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._pairs = pairs
        self._decided: dict[tuple[str, Any], bool] = {}

    @cached_property
    def theirs(self) -> Mapping[str, str]:
        """By our names, those in `transformers`."""
        return dict(self._pairs())

    def means_ours(self, method: str, text: Any, test: Callable[[str], bool]) -> bool:
        """Return whether a test of names is about our names: it is if it holds for one of them.

        Where it then chooses other parameters than the names of `transformers` would, a warning says so, once.
        """
        key = method, text
        if key not in self._decided:
            chosen = [ours for ours in self.theirs if test(ours)]
            self._decided[key] = bool(chosen)
            other = [ours for ours, theirs in self.theirs.items() if test(theirs)]
            if chosen and other and chosen != other:
                warnings.warn(
                    f"{text!r} chooses {len(chosen)} parameters by dragoman's names (named_parameters) and "
                    f"{len(other)} by the names of transformers (hf_named_parameters). The former count here.",
                    UserWarning,
                    stacklevel=4,
                )
        return self._decided[key]


class TensorName(str):
    """Our name of a parameter.

    `in`, `startswith` and `endswith` test the name in `transformers` if what they look for is in none of our names.
    In all else it is an ordinary string.

    Attributes:
        pairs: The names of all parameters of the model.
    """

    __slots__ = ("pairs",)
    pairs: NamePairs | None

    def __new__(cls, name: str, pairs: NamePairs | None = None) -> "TensorName":
        found = super().__new__(cls, name)
        found.pairs = pairs
        return found

    def __reduce__(self) -> Any:
        return TensorName, (str(self),)

    def _test(self, method: str, text: Any, test: Callable[[str], bool]) -> bool:
        name = str(self)
        if self.pairs is None or self.pairs.means_ours(method, text, test):
            return test(name)
        return test(self.pairs.theirs.get(name, name))

    def __contains__(self, text: object) -> bool:
        return self._test("in", text, lambda name: text in name)  # type: ignore[operator]

    def startswith(self, text: Any, *bounds: Any) -> bool:
        """Return whether the name begins with `text`, or with one of several."""
        if bounds:
            return super().startswith(text, *bounds)
        return self._test("startswith", text, lambda name: name.startswith(text))

    def endswith(self, text: Any, *bounds: Any) -> bool:
        """Return whether the name ends with `text`, or with one of several."""
        if bounds:
            return super().endswith(text, *bounds)
        return self._test("endswith", text, lambda name: name.endswith(text))
