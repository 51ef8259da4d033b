"""What stops a run that goes wrong, or no longer gets better."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dragoman.errors import DragomanError

_WINDOW = 20  # steps whose mean loss is looked at


@dataclass
class Watch:
    """Stops when the loss diverges, or gradients are not finite again and again.

    Attributes:
        factor: The loss may rise to N times its lowest mean, or to the first; 0 allows anything.
        most_skipped: Number of skipped steps in a row that is too many.
        losses: The last ones.
        first: Mean of the first ones.
        lowest: Lowest mean.
        skipped: Number of skipped steps in a row.
    """

    factor: float
    most_skipped: int
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    first: float | None = None
    lowest: float = float("inf")
    skipped: int = 0

    def see(self, loss: float, skipped: bool) -> None:
        """Take note of a step.

        Raises:
            DragomanError: If training goes wrong.
        """
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped >= self.most_skipped:
            raise DragomanError(
                f"Training stops: loss or gradients were NaN or infinite {self.skipped} steps in a row. Lower "
                "`training.learning_rate`, turn off `training.bf16`, or look for broken recordings with "
                "`dragoman data check`. The last checkpoint is whole."
            )
        if skipped:
            return
        self.losses.append(loss)
        if len(self.losses) < _WINDOW:
            return
        mean = sum(self.losses) / _WINDOW
        self.first = mean if self.first is None else self.first
        self.lowest = min(self.lowest, mean)
        if self.factor and mean > self.factor * self.lowest and mean > self.first:
            raise DragomanError(
                f"Training stops: the loss has risen from {self.lowest:.3f} to {mean:.3f}, the mean of {_WINDOW} "
                "steps. Lower `training.learning_rate` or lengthen the warm-up, and continue from the best model; "
                "`training.divergence_factor=0` lets it go on."
            )

    def forget(self) -> None:
        """Forget the losses: those that come are of another kind."""
        self.losses.clear()
        self.first, self.lowest = None, float("inf")

    def state(self) -> dict[str, Any]:
        """Return what it has seen, as plain values."""
        lowest = None if self.lowest == float("inf") else self.lowest
        return {"losses": list(self.losses), "first": self.first, "lowest": lowest, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.losses = deque(state["losses"], maxlen=_WINDOW)
        self.first, self.skipped = state["first"], state["skipped"]
        self.lowest = float("inf") if state["lowest"] is None else state["lowest"]
