"""Learning rates by step: a linear warm-up, then one of the schedules of `transformers`, under its names."""

import math
from collections.abc import Callable

# From the share of the steps after the warm-up that are done, 0 to 1, to the share of the highest rate.
_AFTER: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
    "constant_with_warmup": lambda done: 1.0,
}

SCHEDULES = (*_AFTER, "inverse_sqrt")
"""The names of all schedules."""


def rate_at(name: str, step: int, *, warmup: int, total: int) -> float:
    """Return the share of the highest learning rate that a step uses.

    Args:
        name: One of `SCHEDULES`. `constant` has no warm-up.
        step: Number of steps done before, from 0.
        warmup: Number of steps of the warm-up.
        total: Number of all steps.
    """
    if name == "constant":
        return 1.0
    if step < warmup:
        return step / max(1, warmup)
    if name == "inverse_sqrt":
        timescale = warmup or 10_000
        return 1.0 / math.sqrt((step + timescale - warmup) / timescale)
    done = (step - warmup) / max(1, total - warmup)
    return max(0.0, _AFTER[name](min(done, 1.0)))


def warmup_of(steps: float, ratio: float, total: int) -> int:
    """Return the number of steps of the warm-up.

    Args:
        steps: Number of steps, or if below 1, their share of all; 0 for `ratio`.
        ratio: Share of all steps.
        total: Number of all steps.
    """
    if steps >= 1:
        return int(steps)
    return math.ceil(total * (steps or ratio))
