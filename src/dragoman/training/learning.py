"""What the loop asks of a framework: processes, and a learner that takes steps."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class StepResult(Protocol):
    """What a step gave; see `dragoman.torch.learner.StepResult`."""

    @property
    def loss(self) -> float:
        """Mean over all labels, before the step."""

    @property
    def grad_norm(self) -> float:
        """Norm of the gradients before clipping."""

    @property
    def tokens(self) -> int:
        """Number of labels."""

    @property
    def skipped(self) -> bool:
        """Whether nothing was changed, because something is NaN or infinite."""


class Processes(Protocol):
    """The processes of a run; every method is called by all of them, in the same order."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def world(self) -> int:
        """Number of processes."""

    def sum(self, *numbers: float) -> list[float]:
        """Return the sums of numbers over all processes."""

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes."""

    def wait(self) -> None:
        """Wait until all processes are here."""


class Learner(Protocol):
    """Takes steps and keeps all that they change; its own random numbers follow from the seed and the step."""

    @property
    def processes(self) -> Processes:
        """All processes of the run."""

    def step(self, parts: Sequence[Mapping[str, Any]], number: int, rate: float) -> StepResult:
        """Take one step over some batches, at a share of the highest learning rates."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Evaluate or save in a `with` block."""

    def loss(self, part: Mapping[str, Any]) -> tuple[float, int]:
        """Return the summed loss of a batch's labels, and their number."""

    def transcribe(self, part: Mapping[str, Any], **options: Any) -> list[list[int]]:
        """Return token ids for the clips of a batch."""

    def save_model(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder; every process calls this, and the first writes."""

    @property
    def sharded(self) -> bool:
        """Whether `write_shards` writes checkpoints, and not `write_weights` and `write_optimizer`."""

    def write_shards(self, folder: Path) -> None:
        """Write all of a checkpoint; every process calls this, and writes its share."""

    def restore_shards(self, folder: Path) -> None:
        """Continue from what `write_shards` wrote."""

    def write_weights(self, path: Path) -> None:
        """Write the weights exactly."""

    def write_optimizer(self, path: Path) -> None:
        """Write what the optimizer keeps."""

    def restore(self, weights: Path, optimizer: Path) -> None:
        """Continue from what was written."""
