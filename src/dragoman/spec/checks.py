"""Checks of sizes, probabilities and bounds that the specs share."""

import math
from collections.abc import Mapping

from dragoman.errors import ConfigError

# Above these a configuration is a mistake or an attack: no published model comes near.
_LARGEST = 2**24
MOST_LAYERS = 1_000


def check_sizes(owner: str, sizes: Mapping[str, int], at_least: int = 1, at_most: int = _LARGEST) -> None:
    """Raise one `ConfigError` that lists every size that is not a whole number from `at_least` to `at_most`."""
    wrong = [
        f"`{name}` must be a whole number from {at_least} to {at_most}, but is {size!r}"
        for name, size in sizes.items()
        if not isinstance(size, int) or isinstance(size, bool) or not at_least <= size <= at_most
    ]
    if wrong:
        raise ConfigError(f"{owner} cannot be built: {'; '.join(wrong)}.")


def check_numbers(owner: str, numbers: Mapping[str, float], at_most: float = 1.0) -> None:
    """Raise one `ConfigError` that lists every probability or scale that is not from 0 to `at_most`."""
    wrong = [
        f"`{name}` must be a number from 0 to {at_most:g}, but is {number!r}"
        for name, number in numbers.items()
        if not 0 <= number <= at_most  # which NaN is not either
    ]
    if wrong:
        raise ConfigError(f"{owner} cannot be built: {'; '.join(wrong)}.")


def check_cap(what: str, cap: float | None) -> None:
    """Raise a `ConfigError` if a cap is given and not above 0."""
    if cap is not None and not 0 < cap < math.inf:
        raise ConfigError(f"{what} must be a number above 0, or null for none, but is {cap!r}.")
