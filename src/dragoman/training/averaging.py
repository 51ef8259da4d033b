"""The mean of a run's newest checkpoints as a model, which is often a little better than each of them."""

import logging
from pathlib import Path

from dragoman._lazy import require
from dragoman.errors import ConfigError
from dragoman.training.checkpoints import SHARDS, WEIGHTS, checkpoints, fault_of
from dragoman.training.config import Config
from dragoman.training.parts import model_of, processes_of
from dragoman.training.run import BEST, settings_of

_log = logging.getLogger("dragoman")


def average(run: str | Path, output: str | Path, *, last: int = 5) -> list[Path]:
    """Write the mean of the weights of a run's newest checkpoints as a Hugging Face folder.

    Args:
        run: The folder of a run in PyTorch; `training.save_total_limit` says how many checkpoints it keeps.
        output: The folder for the model.
        last: How many checkpoints at most; damaged ones are left out with a warning.

    Returns:
        The checkpoints that it is the mean of, the newest first.

    Raises:
        ConfigError: If the run has fewer than two whole checkpoints, or was trained with JAX.
        CheckpointError: If a checkpoint holds other tensors than the model of the run.
    """
    if last < 2:
        raise ConfigError(f"`last` is {last}, but a mean needs 2 checkpoints or more.")
    run = Path(run)
    config = Config.from_dict(settings_of(run))
    if config.model.backend != "torch":
        raise ConfigError(f"{run} was trained with JAX; the checkpoints of runs in PyTorch can be averaged.")
    whole = []
    for path in checkpoints(run):
        fault = fault_of(path)
        if fault is None:
            whole.append(path)
        else:
            _log.warning("%s is damaged (%s) and left out.", path, fault)
    if any((path / SHARDS).is_dir() for path in whole):
        raise ConfigError(f"{run} has checkpoints in shards (`training.fsdp`), which cannot be averaged.")
    whole = whole[:last]
    if len(whole) < 2:
        raise ConfigError(
            f"{run} has {len(whole)} checkpoint{'s' * (len(whole) != 1)} to average, but 2 or more are needed. A run "
            "keeps as many as `training.save_total_limit` says."
        )
    config.training.use_cpu = True
    model, _ = model_of(config, run / BEST, processes_of(config))
    saved = require("dragoman.torch.saved", "Averaging")
    saved.average_weights(model, model.ctc_scoring_head, [path / WEIGHTS for path in whole])
    model.save_pretrained(output)
    return whole
