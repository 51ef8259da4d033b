"""`dragoman train`: from two checkpoints and a data set to a model."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from dragoman._lazy import require
from dragoman.cli.console import LOG
from dragoman.cli.flags import MessageFlags
from dragoman.cli.generated import with_flags
from dragoman.transcriber.fields import option

_training = partial(option, group="Training")

# Flags with a short way to options of the configuration.
_OPTIONS = {
    "model": "model.model_name_or_path",
    "encoder": "model.encoder",
    "decoder": "model.decoder",
    "train": "data.train",
    "valid": "data.valid",
    "output_dir": "training.output_dir",
}


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """What is trained, on what, and where to."""

    encoder: str | None = _training(None, "Folder or hub id of a speech encoder, to join with `--decoder`.")
    decoder: str | None = _training(None, "Folder or hub id of a text model.")
    model: str | None = _training(None, "Folder or hub id of a whole model to train further.")
    train: str | None = _training(None, "Manifest or folder of the training set.")
    valid: str | None = _training(None, "Manifest or folder of the validation set, which chooses the best model.")
    output_dir: Path | None = _training(None, "Folder for checkpoints, log and the best model.", short="-o")
    resume: bool = _training(False, "Continue from the newest whole checkpoint in the folder, or begin.")


@with_flags
def train(
    config: Annotated[Path | None, Argument(help="Configuration, a YAML file.")] = None,
    *,
    flags: TrainFlags,
    set_: Annotated[
        list[str] | None,
        Option(
            "--set",
            help="An option of the configuration, as in training.max_steps=1000; may be repeated.",
            metavar="<part.name=value>",
            rich_help_panel="Training",
        ),
    ] = None,
    messages: MessageFlags,
) -> int:
    """Train a model, by a configuration, by flags, or by both; flags win.

    The best model is always in the folder best of the output folder, in the Hugging Face layout. SIGTERM, SIGINT and
    SIGUSR1 save a checkpoint and end the command with 128 plus the number of the signal; --resume continues.
    """
    training = require("dragoman.training", "`dragoman train`")
    given = {path: getattr(flags, name) for name, path in _OPTIONS.items() if getattr(flags, name) is not None}
    assignments = [f"{path}={_quoted(str(value))}" for path, value in given.items()] + list(set_ or ())
    if config is None and flags.resume and flags.output_dir is not None:  # with nothing else, as it was started
        settings = training.Config.from_dict(training.settings_of(flags.output_dir))
        settings = training.read_config(settings.to_dict(), assignments)
    else:
        settings = training.read_config(config, assignments)
    with _bar() as listener:
        result = training.train(settings, resume=flags.resume, listener=listener)
    if result.signal:
        LOG.warning("Stopped by signal %d after step %d. It is saved; --resume continues.", result.signal, result.step)
        return 128 + int(result.signal)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in (result.metrics or {}).items())
    print(f"{result.folder}: written after {result.step} steps{f'; {figures}' if figures else ''}.")  # noqa: T201
    return 0


def _quoted(text: str) -> str:
    """Return a path as YAML takes it, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _bar() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show progress, if standard error is a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as progress:
        task = progress.add_task("training")

        def show(record: dict[str, Any]) -> None:
            if "loss" not in record:
                progress.console.print(_evaluated(record), markup=False, highlight=False)
                return
            progress.update(task, completed=record["step"], total=record["total"], description=_described(record))

        yield show


def _log(record: dict[str, Any]) -> None:
    if "loss" not in record:
        LOG.info("%s", _evaluated(record))
    elif record["step"] % 10 == 0:
        LOG.info("step %d of %d: %s", record["step"], record["total"], _described(record))


def _described(record: dict[str, Any]) -> str:
    return f"loss {record['loss']:.3f} rate {record['learning_rate']:.1e} {record['seconds_per_second']:.0f} s audio/s"


def _evaluated(record: dict[str, Any]) -> str:
    figures = (f"{name.removeprefix('eval_')} {v:.4g}" for name, v in record.items() if name.startswith("eval_"))
    return f"step {record['step']}, validation: {', '.join(figures)}"
