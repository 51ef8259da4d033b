"""Workers under Ray: parts stream through Ray Data's pool of actors, which Ray itself grows, shrinks and mends."""

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dragoman._lazy import require
from dragoman.bulk.ledger import Done, Entry
from dragoman.bulk.local import Event, worker_error
from dragoman.bulk.plan import Part
from dragoman.bulk.process import described
from dragoman.bulk.settings import Work
from dragoman.bulk.work import Worker
from dragoman.errors import ConfigError, DragomanError

_log = logging.getLogger("dragoman")

_NEEDED = "`--runner ray`"


class _Actor:
    """A worker in an actor. What goes wrong for all items is an answer: errors are for Ray to repeat.

    Args:
        work: What is wanted.
    """

    def __init__(self, work: Work) -> None:
        self._error: tuple[str, int] | None = None
        try:
            self._worker = Worker(work)
        except DragomanError as error:
            self._error = described(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Transcribe the parts of a batch, of which there is one."""
        part: Part = pickle.loads(batch["part"][0])  # noqa: S301 (our own, from the driver)
        told: list[Done] = []
        entry: Entry | None = None
        if self._error is None:
            try:
                entry = self._worker.run(part, told.append)
            except DragomanError as error:
                self._error = described(error)
        answer = np.empty(1, dtype=object)
        answer[0] = (entry, told, self._error)
        return {"answer": answer}


def run_on_ray(work: Work, parts: Sequence[Part], workers: int | None, address: str | None) -> Iterator[Event]:
    """Transcribe parts on a cluster, and yield what `run_local` does, with the number of machines first.

    Args:
        work: What is wanted; its output must be the same place on all machines.
        parts: The parts.
        workers: Number of actors; `None` for as many as fit, by need.
        address: Of the cluster; `None` for the running one, or else one on this machine for this run.

    Raises:
        ConfigError: If there is no cluster at the address.
        DragomanError: If a worker says that all items would fail.
    """
    ray, data = require("ray", _NEEDED), require("ray.data", _NEEDED)
    if not ray.is_initialized():
        _connect(ray, address)
    yield "machines", sum(node["Alive"] for node in ray.nodes())
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = 1 if ray.cluster_resources().get("GPU") and work.loading["device"] in ("auto", "cuda") else 0
    threads = work.threads or 1
    pool = (
        data.ActorPoolStrategy(min_size=1, max_size=len(parts))
        if workers is None
        else data.ActorPoolStrategy(size=min(workers, len(parts)))
    )
    column = [{"part": pickle.dumps(part)} for part in parts]
    done = data.from_items(column, override_num_blocks=len(parts)).map_batches(
        _Actor,
        fn_constructor_args=(replace(work, threads=threads),),
        batch_size=1,
        compute=pool,
        num_cpus=threads,
        num_gpus=gpus or None,
    )
    for row in done.iter_rows():
        entry, told, error = row["answer"]
        if error is not None:
            raise worker_error(*error)
        for one in told:
            yield "item", one
        yield "part", entry


def _connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one here.

    Raises:
        ConfigError: If there is none at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is not None:
            raise ConfigError(
                f"`--ray_address` {address!r}: there is no cluster that answers ({error!s:.200})."
            ) from error
        _log.info("There is no Ray cluster: one is started on this machine.")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
