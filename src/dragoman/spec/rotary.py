"""Rotary positions (https://arxiv.org/abs/2104.09864): channel pairs of queries and keys, rotated by their position.

The scalings for sequences longer than those of the first training are Llama 3.1's (https://arxiv.org/abs/2407.21783),
YaRN (https://arxiv.org/abs/2309.00071) and LongRoPE (https://arxiv.org/abs/2402.13753).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Lower frequencies, by wavelength (Llama 3.1); all alike where `low` and `high` are `None`."""

    factor: float
    """Divides the frequency of waves longer than `original_positions / low`; those between are interpolated."""
    low: float | None = None
    """Waves per training sequence up to which the full factor applies."""
    high: float | None = None
    """Waves per training sequence from which on frequencies stay as they are."""
    original_positions: int = 0
    """Length of the sequences of the first training, in tokens."""

    def __post_init__(self) -> None:
        if not (self.factor > 0 and (self.low or 0) < (self.high or 1)):
            raise ConfigError(
                f"The scaling of rotary positions must have a factor above 0 and `low` below `high`, but is {self}."
            )

    def scaled(self, frequencies: Sequence[float], theta: float) -> list[float]:
        """Scale the frequencies of all pairs, in radians per position."""
        return [self._scaled(frequency) for frequency in frequencies]

    def _scaled(self, frequency: float) -> float:
        if self.low is None or self.high is None:
            return frequency / self.factor
        waves = self.original_positions * frequency / (2 * math.pi)
        kept = min(max((waves - self.low) / (self.high - self.low), 0.0), 1.0)
        return frequency * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """Lower frequencies, by rotations per training sequence, interpolated pair by pair (YaRN)."""

    factor: float
    """Divides the frequency of pairs with `slow` rotations or fewer."""
    original_positions: int
    """Length of the sequences of the first training, in tokens."""
    fast: float = 32.0
    """Rotations per training sequence from which on frequencies stay as they are."""
    slow: float = 1.0
    """Rotations per training sequence up to which the full factor applies."""
    whole: bool = True
    """Whether the bounds of the interpolation are rounded outwards to whole pairs."""

    def __post_init__(self) -> None:
        if not (self.factor > 0 and self.original_positions > 0 and 0 < self.slow <= self.fast):
            raise ConfigError(
                "The scaling of rotary positions must have a factor and positions above 0, and `slow` from 0 to `fast`,"
                f" but is {self}."
            )

    def scaled(self, frequencies: Sequence[float], theta: float) -> list[float]:
        """Scale the frequencies of all pairs, in radians per position."""
        width = 2 * len(frequencies)
        first, last = (self._pair(rotations, width, theta) for rotations in (self.fast, self.slow))
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, width - 1)
        span = (last - first) or 0.001
        shares = (min(max((pair - first) / span, 0.0), 1.0) for pair in range(len(frequencies)))
        return [f * (1 - share + share / self.factor) for f, share in zip(frequencies, shares, strict=True)]

    def _pair(self, rotations: float, width: int, theta: float) -> float:
        """Return the (fractional) index of the pair with that many rotations per training sequence."""
        return width * math.log(self.original_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True, kw_only=True)
class PairScaling:
    """A factor for each pair (LongRoPE)."""

    factors: tuple[float, ...]
    """Divides the frequency of each pair."""

    def __post_init__(self) -> None:
        if not all(factor > 0 for factor in self.factors):
            raise ConfigError(f"The factors of rotary positions must be above 0, but are {self.factors}.")

    def scaled(self, frequencies: Sequence[float], theta: float) -> list[float]:
        """Scale the frequencies of all pairs, in radians per position."""
        return [frequency / factor for frequency, factor in zip(frequencies, self.factors, strict=True)]


@dataclass(frozen=True, kw_only=True)
class RotarySpec:
    """Rotation of pairs of the first channels of each head."""

    width: int
    """Number of channels that are rotated."""
    theta: float = 10_000.0
    """Base of the geometric series of frequencies."""
    scaling: RotaryScaling | YarnScaling | PairScaling | None = None
    """Scaling of the frequencies for long sequences."""
    magnitude: float = 1.0
    """Factor of the rotated channels, which sharpens the attention of a scaled model."""
    interleaved: bool = False
    """Whether channel `2 i` is paired with `2 i + 1` (Moonshine) instead of `i` with `i + width / 2`."""

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise ConfigError(f"Rotary positions rotate channel pairs, so the width must be even, but is {self.width}.")
        least = 1 if isinstance(self.scaling, YarnScaling) else 0
        if not least < self.theta < math.inf:
            raise ConfigError(f"The base of rotary positions must be above {least}, but is {self.theta!r}.")
        if not 0 < self.magnitude < math.inf:
            raise ConfigError(f"The attention factor of rotary positions must be above 0, but is {self.magnitude!r}.")
        if isinstance(self.scaling, PairScaling) and 2 * len(self.scaling.factors) != self.width:
            raise ConfigError(
                f"Rotary positions of {self.width // 2} pairs need one factor (`short_factor`) per pair, but there are "
                f"{len(self.scaling.factors)}."
            )

    @property  # not cached: `cached_property` takes a lock, which `torch.compile` cannot trace
    def frequencies(self) -> tuple[float, ...]:
        """Radians per position of each of the `width / 2` pairs."""
        plain = [self.theta ** (-2 * pair / self.width) for pair in range(self.width // 2)]
        return tuple(plain if self.scaling is None else self.scaling.scaled(plain, self.theta))
