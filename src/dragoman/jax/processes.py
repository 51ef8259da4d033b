"""The process of a training run in JAX, which is one."""

from typing import Any

import jax


class Processes:
    """The one process of a run with JAX."""

    rank, world = 0, 1

    def __init__(self, *, use_cpu: bool = False) -> None:
        if use_cpu:
            jax.config.update("jax_default_device", jax.devices("cpu")[0])  # type: ignore[no-untyped-call]

    def sum(self, *numbers: float) -> list[float]:
        """Return the numbers."""
        return list(numbers)

    def gather(self, value: Any) -> list[Any]:
        """Return the value alone."""
        return [value]

    def wait(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
