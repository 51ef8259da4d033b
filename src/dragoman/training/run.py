"""`train`: a configuration to a trained model."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman._lazy import require
from dragoman.errors import ConfigError, DragomanError
from dragoman.files import find_json, read_json, write_bytes, write_json
from dragoman.training.augmentation import Augmentation
from dragoman.training.batches import Item, Preparation
from dragoman.training.card import model_card
from dragoman.training.checkpoints import STATE, checkpoints, newest_checkpoint
from dragoman.training.config import Config
from dragoman.training.datasets import Sets, read_sets
from dragoman.training.evaluating import Evaluator
from dragoman.training.journal import Journal, Listener
from dragoman.training.loop import Loop, Progress
from dragoman.training.parts import learner_of, model_of, processes_of
from dragoman.training.signals import stop_requests
from dragoman.training.trackers import tracked

BEST, SETTINGS = "best", "training_config.json"
"""The folder of the best model and the file of the configuration, in the folder of a run."""

_log = logging.getLogger("dragoman")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The outcome of a run.

    Attributes:
        folder: The folder of the best model, in the Hugging Face layout.
        step: Optimizer steps done.
        metrics: The evaluation of the best model; `None` without a validation set.
        signal: The signal that stopped the run before its end; 0 if none did.
    """

    folder: Path
    step: int
    metrics: Mapping[str, float] | None
    signal: int = 0


def train(config: Config | Mapping[str, Any], *, resume: bool = False, listener: Listener | None = None) -> TrainResult:
    """Train a model.

    Checkpoints, `log.jsonl` and the best model (`best/`, always whole) are in `training.output_dir`. SIGTERM, SIGINT
    and SIGUSR1 save a checkpoint and end the run. Started by `torchrun`, all processes train one model.

    Args:
        config: A `Config`, or nested mappings of the same names.
        resume: Continue from the newest whole checkpoint; without one, begin.
        listener: Gets the figures of every step and evaluation.

    Raises:
        ConfigError: If the configuration is wrong, or there is an earlier run in the folder and `resume` is false.
        DragomanError: If data, model or disk cannot be used, or training goes wrong; checkpoints stay whole.

    Example:
        >>> config = {"model": {"encoder": "wav2vec2", "decoder": "bert"}, "data": {"train": "train.tsv"}}
        >>> result = train({**config, "training": {"output_dir": "out", "max_steps": 1000}})
    """
    config = config if isinstance(config, Config) else Config.from_dict(config)
    config.check()
    folder = Path(str(config.training.output_dir))
    processes = processes_of(config)
    names = config.training.report_to if processes.rank == 0 else []
    with (
        _own_generator(config),
        _closed(processes),
        _locked(folder, processes.rank),
        tracked(names, folder, config.to_dict(), listener) as tell,
        stop_requests() as stop,
    ):
        checkpoint = _checkpoint(folder, resume)
        if checkpoint is not None:
            _warn_of_changes(read_json(checkpoint / STATE).get("config", {}), config.to_dict())
        model, processor = model_of(config, folder / BEST if checkpoint else None, processes)
        preparation = _preparation(config, processor, model.config)
        sets = read_sets(config, preparation)
        tokens = sorted({token for item in sets.train for token in item.labels})
        learner = learner_of(config, model, processor, processes, tokens)
        loop = _loop(config, folder, preparation, sets, learner, stop, tell)
        if processes.rank == 0:
            write_json(folder / SETTINGS, config.to_dict())
        if checkpoint is None:
            learner.save_model(folder / BEST)
        processes.wait()
        progress = loop.run(checkpoint)
    finished = progress.step >= loop.total_steps()
    return TrainResult(
        folder=folder / BEST,
        step=progress.step,
        metrics=progress.best_metrics,
        signal=0 if finished else stop.number,
    )


@contextmanager
def _own_generator(config: Config) -> Iterator[None]:
    """Leave the caller's generator of random numbers as it is; JAX has none."""
    if config.model.backend == "jax":
        yield
        return
    with require("torch", "Training").random.fork_rng():
        yield


@contextmanager
def _closed(processes: Any) -> Iterator[None]:
    try:
        yield
    finally:
        processes.close()


@contextmanager
def _locked(folder: Path, rank: int) -> Iterator[None]:
    """Keep other runs out of the folder, which is made.

    Raises:
        DragomanError: If it cannot be made, or another run uses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".dragoman-lock", os.O_RDWR | os.O_CREAT, 0o644) if rank == 0 else None
    except OSError as error:
        raise DragomanError(
            f"{folder} cannot be written to ({error.strerror}). Choose another `training.output_dir`."
        ) from error
    try:
        if descriptor is not None and sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DragomanError(f"Another run trains into {folder}. Stop it, or choose another folder.") from None
            except OSError:  # some network disks have no locks
                pass
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _checkpoint(folder: Path, resume: bool) -> Path | None:
    """Return the checkpoint to continue from.

    Raises:
        ConfigError: If there is an earlier run, and it is not to be continued.
    """
    if resume:
        found = newest_checkpoint(folder)
        if found is None:
            _log.warning("%s: there is no checkpoint yet, so training begins at the start.", folder)
        return found
    if checkpoints(folder) or (folder / BEST / "config.json").exists():
        raise ConfigError(
            f"{folder} holds an earlier run. Continue it with --resume (which begins again if it has no checkpoint), "
            "or choose another folder."
        )
    return None


def _warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [
        f"{part}.{name}: {old!r} → {now[part].get(name)!r}"
        for part, options in before.items()
        for name, old in options.items()
        if old != now.get(part, {}).get(name)
    ]
    if changed:
        _log.warning("Resumed with other options than the run began with: %s.", "; ".join(changed))


def _preparation(config: Config, processor: Any, model_config: Any) -> Preparation:
    data = config.data
    augmentation = Augmentation(
        speeds=data.speed_perturbation,
        noise_probability=data.noise_probability,
        noise_snr_db=(data.noise_snr_db[0], data.noise_snr_db[1]),
    )
    return Preparation(processor, model_config, augmentation=augmentation, seed=config.training.seed)


def _loop(
    config: Config,
    folder: Path,
    preparation: Preparation,
    sets: Sets,
    learner: Any,
    stop: Any,
    listener: Listener,
) -> Loop:
    processes = learner.processes
    evaluator = _evaluator(config, preparation, sets.valid) if sets.valid else None
    transcribes = evaluator is not None and evaluator.transcribe

    def save_best(progress: Progress) -> None:
        learner.save_model(folder / BEST)
        if processes.rank > 0:
            return
        card = model_card(
            config, step=progress.step, metrics=progress.best_metrics, seconds=progress.seconds, items=len(sets.train)
        )
        write_bytes(folder / BEST / "README.md", card.encode())

    return Loop(
        folder=folder,
        options=config.training,
        learner=learner,
        preparation=preparation,
        sampler=lambda: sets.sampler(config, world=processes.world, rank=processes.rank),
        items=sets.train,
        evaluator=evaluator,
        metric=config.evaluation.metric_for_best_model or ("wer" if transcribes else "loss"),
        journal=Journal(folder if processes.rank == 0 else None, listener if processes.rank == 0 else None),
        stop=stop,
        settings=config.to_dict(),
        save_best=save_best,
    )


def _evaluator(config: Config, preparation: Preparation, items: list[Item]) -> Evaluator:
    options = config.evaluation
    generation: dict[str, Any] = {"num_beams": options.generation_num_beams}
    items = items[: options.max_eval_samples]
    if options.generation_max_length is not None:
        generation["max_length"] = options.generation_max_length
    else:  # a model that has learned little writes as much as it may
        longest = max(len(item.labels) for item in items)
        generation["max_new_tokens"] = max(1, min(2 * longest + 10, preparation.room - 1))
    return Evaluator(
        preparation=preparation,
        items=items,
        seconds_per_batch=options.seconds_per_batch or config.data.seconds_per_batch,
        threads=config.training.dataloader_num_workers,
        transcribe=options.predict_with_generate,
        generation=generation,
        normalizer=options.normalizer,
    )


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the configuration of a run as it was last started; empty if there was none."""
    return find_json(folder / SETTINGS)
