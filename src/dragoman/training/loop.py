"""The loop: steps, evaluations and checkpoints, from any step on as if it had never stopped."""

import logging
import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dragoman.data import BucketSampler
from dragoman.files import read_json
from dragoman.training.batches import Item, Preparation, Prepared, epoch_batches
from dragoman.training.checkpoints import SCRATCH, SHARDS, STATE, WEIGHTS, save_checkpoint
from dragoman.training.config import TrainingOptions
from dragoman.training.evaluating import Evaluator
from dragoman.training.guards import Watch
from dragoman.training.journal import Journal
from dragoman.training.learning import Learner
from dragoman.training.schedules import rate_at, warmup_of
from dragoman.training.signals import StopRequest

_OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The batches of a step, with the place after them.

    Attributes:
        batches: The batches.
        epoch: Number of the epoch.
        position: Number of batches of this epoch that are done.
        share: Share of the epoch of the batches that is done.
    """

    batches: list[Prepared]
    epoch: int
    position: int
    share: float


_log = logging.getLogger("dragoman")


@dataclass(kw_only=True)
class Progress:
    """How far a run is; part of every checkpoint.

    Attributes:
        step: Optimizer steps done.
        epoch: Number of the epoch, from 0.
        position: Batches of this epoch that are done, per process.
        seconds: Seconds of audio that were trained on.
        evaluated: Step of the last evaluation; -1 before the first.
        best: Value of the metric of the best model.
        best_step: Its step.
        worse: Evaluations since then.
        metrics: The last evaluation.
        best_metrics: That of the best model.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    seconds: float = 0.0
    evaluated: int = -1
    best: float | None = None
    best_step: int = -1
    worse: int = 0
    metrics: dict[str, float] | None = None
    best_metrics: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Loop:
    """All that a run consists of.

    Attributes:
        folder: For checkpoints and the log.
        options: The options of training.
        learner: Takes the steps.
        preparation: Makes batches.
        items: The training set.
        sampler: Returns a sampler of its order, at the beginning.
        evaluator: For the validation set, if there is one.
        metric: What chooses the best model; lower is better.
        journal: The log.
        stop: Whether a signal came.
        settings: The configuration, kept in checkpoints.
        save_best: Writes the best model.
    """

    folder: Path
    options: TrainingOptions
    learner: Learner
    preparation: Preparation
    items: list[Item]
    sampler: Callable[[], BucketSampler]
    evaluator: Evaluator | None
    metric: str
    journal: Journal
    stop: StopRequest
    settings: dict[str, Any]
    save_best: Callable[[Progress], None]

    def run(self, checkpoint: Path | None = None) -> Progress:
        """Train to the end, or until a signal; return how far it came.

        Args:
            checkpoint: Where to continue; `None` begins.

        Raises:
            DragomanError: If training goes wrong, or a checkpoint cannot be written.
        """
        progress, watch = Progress(), Watch(self.options.divergence_factor, self.options.max_skipped_steps)
        if checkpoint is not None:
            progress = self._restore(checkpoint, watch)
        saved = progress.step if checkpoint is not None else -1
        total = self.total_steps()
        self.journal.begin(progress.step, total)
        chunks = self._chunks(progress)
        while True:
            done = progress.step >= total or self._impatient(progress)
            stopping = self._stopping()
            if not stopping and self._is_due(progress, self.options.eval_steps or self.options.save_steps, done):
                stopping = not self._evaluate(progress)
                done = done or self._impatient(progress)
            if saved != progress.step and (done or stopping or self._is_due_to_save(progress)):
                self._save(progress, watch)
                saved = progress.step
            if done or stopping:
                chunks.close()
                return progress
            self._step(progress, watch, next(chunks), total)

    def total_steps(self) -> int:
        """Return the number of optimizer steps of the whole run; epochs do not count those of alignment."""
        if self.options.max_steps > 0:
            return self.options.max_steps
        epochs, steps = self.options.num_train_epochs, self.options.align_steps
        probe = self.sampler()
        for epoch in range(math.ceil(epochs)):
            probe.set_epoch(epoch)
            whole = math.ceil(len(probe) / self.options.gradient_accumulation_steps)
            steps += math.ceil(whole * min(1.0, epochs - epoch))
        return max(1, steps)

    def _is_due(self, progress: Progress, every: int, done: bool) -> bool:
        """Return whether to evaluate now: every N steps after alignment and at the end, but once at each."""
        wanted = progress.step > self.options.align_steps and (progress.step % every == 0 or done)
        return self.evaluator is not None and wanted and progress.evaluated != progress.step

    def _is_due_to_save(self, progress: Progress) -> bool:
        return progress.step > 0 and progress.step % self.options.save_steps == 0

    def _impatient(self, progress: Progress) -> bool:
        patience = self.options.early_stopping_patience
        return patience is not None and progress.worse >= patience

    def _stopping(self) -> bool:
        """Return whether any process got a signal."""
        return bool(self.learner.processes.sum(float(self.stop.number > 0))[0])

    def _chunks(self, progress: Progress) -> Generator[Chunk, None, None]:
        """Yield the batches of each step, with the epoch and the position after them."""
        epoch, position, sampler = progress.epoch, progress.position, self.sampler()
        while True:
            sampler.load_state_dict({**sampler.state_dict(position), "epoch": epoch})
            count = len(sampler)
            stream = epoch_batches(self.preparation, self.items, sampler, threads=self.options.dataloader_num_workers)
            while position < count:
                chunk = list(islice(stream, min(self.options.gradient_accumulation_steps, count - position)))
                position += len(chunk)
                after = (epoch, position) if position < count else (epoch + 1, 0)
                yield Chunk(batches=chunk, epoch=after[0], position=after[1], share=position / count)
            epoch, position = epoch + 1, 0

    def _step(self, progress: Progress, watch: Watch, chunk: Chunk, total: int) -> None:
        begin = time.perf_counter()
        before, batches = progress.epoch, chunk.batches
        progress.epoch, progress.position = chunk.epoch, chunk.position
        parts = [batch.arrays for batch in batches if batch.arrays]
        options = self.options
        rate, share = self._rate(progress.step, total)
        result = self.learner.step(parts, progress.step, share)
        seconds, padded = self.learner.processes.sum(
            sum(batch.seconds for batch in batches), sum(batch.padded for batch in batches)
        )
        progress.step += 1
        progress.seconds += seconds
        if result.skipped:
            _log.warning("Step %d is skipped: loss or gradients are NaN or infinite.", progress.step)
        if progress.step == options.align_steps + 1:
            watch.forget()  # losses of CTC
        watch.see(result.loss, result.skipped)
        taken = time.perf_counter() - begin
        self.journal.step(
            progress.step,
            {
                "epoch": round(before + chunk.share, 4),
                "loss": result.loss,
                "learning_rate": rate,
                "grad_norm": result.grad_norm,
                "tokens": result.tokens,
                "seconds": round(seconds, 3),
                "padding": round(1 - seconds / padded, 4) if padded else 0.0,
                "seconds_per_second": round(seconds / taken, 1) if taken else 0.0,
            },
            every=options.logging_steps,
        )

    def _rate(self, step: int, total: int) -> tuple[float, float]:
        """Return the learning rate of a step, and its share of the highest; that of alignment is constant."""
        options, first = self.options, self.options.align_steps
        if step < first:
            return options.align_learning_rate, 1.0
        warmup = warmup_of(options.warmup_steps, options.warmup_ratio, total - first)
        share = rate_at(options.lr_scheduler_type, step - first, warmup=warmup, total=total - first)
        return options.learning_rate * share, share

    def _evaluate(self, progress: Progress) -> bool:
        """Evaluate, and keep the model if it is the best; return false if a signal came before the end."""
        assert self.evaluator is not None
        found = self.evaluator(self.learner, lambda: self.stop.number > 0)
        if found is None:
            return False
        progress.evaluated, progress.metrics = progress.step, found
        value = found[self.metric]
        best, before = progress.best, (progress.best_metrics or {}).get("loss", float("inf"))
        better = best is None or value < best - self.options.early_stopping_threshold
        progress.worse = 0 if better else progress.worse + 1
        if best is None or value < best or (value == best and found["loss"] < before):
            progress.best, progress.best_step, progress.best_metrics = value, progress.step, found
            self._keep_best(progress)
        self.journal.evaluation(progress.step, found)
        return True

    def _keep_best(self, progress: Progress) -> None:
        self.save_best(progress)
        self.learner.processes.wait()

    def _save(self, progress: Progress, watch: Watch) -> None:
        """Write a checkpoint, and without a validation set also the model."""
        if self.evaluator is None:
            progress.best_step = progress.step
            self._keep_best(progress)
        writers: dict[str, Callable[[Path], Any]] = {}
        if self.learner.sharded:
            scratch = self.folder / f"{SCRATCH}{progress.step}"
            self.learner.write_shards(scratch)
            writers[SHARDS] = scratch.rename
        else:
            writers |= {WEIGHTS: self.learner.write_weights, _OPTIMIZER: self.learner.write_optimizer}
        if self.learner.processes.rank == 0:
            state = {
                "progress": asdict(progress),
                "watch": watch.state(),
                "sampler": {**self.sampler().state_dict(progress.position), "epoch": progress.epoch},
                "config": self.settings,
            }
            save_checkpoint(self.folder, progress.step, state, writers, self.options.save_total_limit)
        self.learner.processes.wait()

    def _restore(self, checkpoint: Path, watch: Watch) -> Progress:
        state = read_json(checkpoint / STATE)
        self.sampler().load_state_dict(state["sampler"])  # refuses other data
        watch.restore(state["watch"])
        if (checkpoint / SHARDS).is_dir():
            self.learner.restore_shards(checkpoint / SHARDS)
        else:
            self.learner.restore(checkpoint / WEIGHTS, checkpoint / _OPTIMIZER)
        return Progress(**state["progress"])
