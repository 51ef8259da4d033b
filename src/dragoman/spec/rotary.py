"""Rotary positions: pairs of numbers of a query or a key are turned by an angle that grows with the position.

Reference: https://arxiv.org/abs/2104.09864; the scaling for long texts is Llama 3.1's (https://arxiv.org/abs/2407.21783).
"""

import math
from dataclasses import dataclass
from functools import cached_property

from dragoman.errors import ConfigError

__all__ = ["RotaryScaling", "RotarySpec"]


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Slower angles, for texts longer than those of the first training.

    Waves longer than `original_positions / low` are slowed by `factor`, those shorter than `original_positions / high`
    not at all, and those between in part. Where `low` and `high` are `None`, all waves are slowed alike.
    """

    factor: float
    low: float | None = None
    high: float | None = None
    original_positions: int = 0

    def slowed(self, frequency: float) -> float:
        """Return what becomes of a frequency, in radians a position."""
        if self.low is None or self.high is None:
            return frequency / self.factor
        waves = self.original_positions * frequency / (2 * math.pi)  # that fit into a text of the first training
        kept = min(max((waves - self.low) / (self.high - self.low), 0.0), 1.0)
        return frequency * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, kw_only=True)
class RotarySpec:
    """The first `width` numbers of each head are turned: number `i` together with number `i + width / 2`."""

    width: int
    theta: float = 10_000.0
    scaling: RotaryScaling | None = None

    def __post_init__(self) -> None:
        """Check that the numbers come in pairs and turn."""
        if self.width < 2 or self.width % 2:
            raise ConfigError(
                f"Rotary positions turn pairs of numbers, so the width must be even, but is {self.width}."
            )
        if not 0 < self.theta < math.inf:
            raise ConfigError(f"The base of rotary positions must be above 0, but is {self.theta!r}.")
        scaling = self.scaling
        if scaling is not None and not (scaling.factor > 0 and (scaling.low or 0) < (scaling.high or 1)):
            raise ConfigError(
                f"The scaling of rotary positions must have a factor above 0 and `low` below `high`, but is {scaling}."
            )

    @cached_property  # asked for at each step of decoding
    def frequencies(self) -> tuple[float, ...]:
        """Radians a position of each of the `width / 2` pairs."""
        plain = (self.theta ** (-2 * pair / self.width) for pair in range(self.width // 2))
        return tuple(plain if self.scaling is None else map(self.scaling.slowed, plain))
