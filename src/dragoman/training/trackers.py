"""Trackers of experiments, by the names that `report_to` has in `transformers`; each is an optional package.

A tracker gets the settings of the run, and the figures of every step and evaluation, with the step that they belong to:
`train/loss`, `train/learning_rate`, …, `eval/wer`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from dragoman._install import install_command
from dragoman.errors import MissingDependencyError
from dragoman.training.journal import Listener

_PROJECT = "dragoman"

_log = logging.getLogger("dragoman")


class Tracker(Protocol):
    """What gets figures."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of a step."""

    def close(self) -> None:
        """Write all that is left."""


class TensorBoard:
    """Writes event files into the folder `tensorboard` of the run: `tensorboard --logdir RUN`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._writer = _module("tensorboard.summary", "tensorboard").Writer(str(folder / "tensorboard"))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Write figures."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write all that is left."""
        self._writer.close()


class WandB:
    """Logs to Weights & Biases, in the way that its environment variables say (`WANDB_MODE=offline`)."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        wandb = _module("wandb", "wandb")
        self._run = wandb.init(project=_PROJECT, name=folder.name, dir=str(folder), config=dict(settings))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log figures."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class MLflow:
    """Logs to MLflow, where `MLFLOW_TRACKING_URI` says."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._mlflow = _module("mlflow", "mlflow")
        self._mlflow.set_experiment(_PROJECT)
        self._mlflow.start_run(run_name=folder.name)
        self._mlflow.log_params({name: str(value)[:500] for name, value in _flat(settings)})

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log figures."""
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class Trackio:
    """Logs to trackio."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._trackio = _module("trackio", "trackio")
        self._trackio.init(project=_PROJECT, name=folder.name, config=dict(_flat(settings)))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log figures."""
        self._trackio.log(dict(figures), step=step)

    def close(self) -> None:
        """End the run."""
        self._trackio.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


@contextmanager
def tracked(
    names: Sequence[str], folder: Path, settings: Mapping[str, Any], listener: Listener | None
) -> Iterator[Listener]:
    """Start trackers in a `with` block; it gives a listener that tells them, and `listener`, of every record.

    A tracker that fails later is left out with a warning; training goes on.

    Args:
        names: Of `TRACKERS`.
        folder: Of the run.
        settings: The configuration of the run.
        listener: Somebody else who wants the records.

    Raises:
        MissingDependencyError: If the package of a tracker is not installed.
    """
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for name in names:
            trackers.append(TRACKERS[name](folder, settings))
            stack.callback(trackers[-1].close)

        def tell(record: dict[str, Any]) -> None:
            for tracker in list(trackers):
                try:
                    tracker.log(_figures(record), record["step"])
                except Exception as error:  # whatever it is, training goes on
                    trackers.remove(tracker)
                    _log.warning("%s gets no more figures: %s", type(tracker).__name__, error)
            if listener is not None:
                listener(record)

        yield tell


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record, named by what they are of."""
    found = {name: value for name, value in record.items() if name not in ("step", "total")}
    return {
        f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": float(value)
        for name, value in found.items()
    }


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part, options in settings.items():
        for name, value in options.items():
            yield f"{part}.{name}", value


def _module(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        command = install_command("tensorboard") if package == "tensorboard" else f"pip install {package}"
        raise MissingDependencyError(
            f"`training.report_to` {package!r} needs the package `{error.name}`, which is not installed. Install it "
            f"with: {command}"
        ) from error
