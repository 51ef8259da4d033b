"""`dragoman average`: the mean of a run's newest checkpoints as a model."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument

from dragoman._lazy import require
from dragoman.cli.flags import MessageFlags
from dragoman.cli.generated import with_flags
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option

_averaging = partial(option, group="Averaging")


@dataclass(frozen=True, kw_only=True)
class AverageFlags:
    """What is averaged, and where the mean goes."""

    output_dir: Path | None = _averaging(None, "Folder for the model; required.", short="-o", unset="none")
    last: int = _averaging(5, "How many checkpoints at most, the newest.")


@with_flags
def average(
    run: Annotated[Path, Argument(help="Folder of a run of `dragoman train`.")],
    *,
    averaging: AverageFlags,
    messages: MessageFlags,
) -> int:
    """Write the mean of the weights of a run's newest checkpoints as a model, in the Hugging Face layout.

    A run keeps as many checkpoints as training.save_total_limit says.
    """
    if averaging.output_dir is None:
        raise ConfigError("`dragoman average` needs a folder for the model: -o FOLDER.")
    used = require("dragoman.training", "`dragoman average`").average(run, averaging.output_dir, last=averaging.last)
    names = ", ".join(path.name for path in reversed(used))
    print(f"{averaging.output_dir}: written, the mean of {names}.")  # noqa: T201
    return 0
