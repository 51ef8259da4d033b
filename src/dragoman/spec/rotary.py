"""Rotary positions: pairs of numbers of a query or a key are turned by an angle that grows with the position.

Reference: https://arxiv.org/abs/2104.09864; the scalings for long texts are Llama 3.1's
(https://arxiv.org/abs/2407.21783), YaRN (https://arxiv.org/abs/2309.00071) and LongRoPE
(https://arxiv.org/abs/2402.13753).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dragoman.errors import ConfigError

__all__ = ["PairScaling", "RotaryScaling", "RotarySpec", "YarnScaling"]


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

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.factor > 0 and (self.low or 0) < (self.high or 1)):
            raise ConfigError(
                f"The scaling of rotary positions must have a factor above 0 and `low` below `high`, but is {self}."
            )

    def slowed(self, plain: Sequence[float], theta: float) -> list[float]:
        """Return what becomes of the frequencies of all pairs, in radians a position."""
        return [self._one(frequency) for frequency in plain]

    def _one(self, frequency: float) -> float:
        if self.low is None or self.high is None:
            return frequency / self.factor
        waves = self.original_positions * frequency / (2 * math.pi)  # that fit into a text of the first training
        kept = min(max((waves - self.low) / (self.high - self.low), 0.0), 1.0)
        return frequency * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """YaRN: pairs that turn `fast` times in a text of the first training or more often are kept as they are.

    Those that turn `slow` times or less are slowed by `factor`, and those between in part, pair by pair. `whole` takes
    the next whole pairs for the borders.
    """

    factor: float
    original_positions: int
    fast: float = 32.0
    slow: float = 1.0
    whole: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.factor > 0 and self.original_positions > 0 and 0 < self.slow <= self.fast):
            raise ConfigError(
                "The scaling of rotary positions must have a factor and positions above 0, and `slow` from 0 to `fast`,"
                f" but is {self}."
            )

    def slowed(self, plain: Sequence[float], theta: float) -> list[float]:
        """Return what becomes of the frequencies of all pairs, in radians a position."""
        width = 2 * len(plain)
        first, last = (self._pair(turns, width, theta) for turns in (self.fast, self.slow))
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        span = (last - first) or 0.001
        shares = (min(max((pair - first) / span, 0.0), 1.0) for pair in range(len(plain)))
        return [f * (1 - share + share / self.factor) for f, share in zip(plain, shares, strict=True)]

    def _pair(self, turns: float, width: int, theta: float) -> float:
        """Return the number of the pair that turns so often, in general not a whole one."""
        return width * math.log(self.original_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True, kw_only=True)
class PairScaling:
    """LongRoPE: each pair is slowed by a number of its own."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not all(factor > 0 for factor in self.factors):
            raise ConfigError(f"The factors of rotary positions must be above 0, but are {self.factors}.")

    def slowed(self, plain: Sequence[float], theta: float) -> list[float]:
        """Return what becomes of the frequencies of all pairs, in radians a position."""
        return [frequency / factor for frequency, factor in zip(plain, self.factors, strict=True)]


@dataclass(frozen=True, kw_only=True)
class RotarySpec:
    """The first `width` numbers of each head are turned: number `i` together with number `i + width / 2`.

    They are multiplied by `magnitude` besides, which sharpens the attention of a scaled model.
    """

    width: int
    theta: float = 10_000.0
    scaling: RotaryScaling | YarnScaling | PairScaling | None = None
    magnitude: float = 1.0

    def __post_init__(self) -> None:
        """Check that the numbers come in pairs and turn."""
        if self.width < 2 or self.width % 2:
            raise ConfigError(
                f"Rotary positions turn pairs of numbers, so the width must be even, but is {self.width}."
            )
        least = 1 if isinstance(self.scaling, YarnScaling) else 0
        if not least < self.theta < math.inf:
            raise ConfigError(f"The base of rotary positions must be above {least}, but is {self.theta!r}.")
        if not 0 < self.magnitude < math.inf:
            raise ConfigError(f"The factor of attention of rotary positions must be above 0, not {self.magnitude!r}.")
        if isinstance(self.scaling, PairScaling) and 2 * len(self.scaling.factors) != self.width:
            raise ConfigError(
                f"Rotary positions of {self.width // 2} pairs need as many factors (`short_factor`), but there are "
                f"{len(self.scaling.factors)}."
            )

    @cached_property  # asked for at each step of decoding
    def frequencies(self) -> tuple[float, ...]:
        """Radians a position of each of the `width / 2` pairs."""
        plain = [self.theta ** (-2 * pair / self.width) for pair in range(self.width // 2)]
        return tuple(plain if self.scaling is None else self.scaling.slowed(plain, self.theta))
