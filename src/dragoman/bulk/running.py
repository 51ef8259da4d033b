"""A bulk run: from a manifest to finished parts, with progress, limits and a summary."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dragoman._lazy import require
from dragoman.bulk.items import read_items, signature
from dragoman.bulk.journal import count_rows
from dragoman.bulk.ledger import Ledger, Run, facts, read_entries, read_runs
from dragoman.bulk.local import Event, run_local, visible_gpus
from dragoman.bulk.plan import Part, Plan, check_settings, extended, load_plan, usual_size
from dragoman.bulk.remote import is_remote
from dragoman.bulk.settings import BulkOptions, Work
from dragoman.bulk.store import STATE, Store, open_store
from dragoman.errors import DataError, ModelNotFoundError

_LISTED = 5  # failures in the message of an error


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        items: Number of its items.
        done: How many of them are done, in this run or before, failed ones included.
        failed: How many failed.
        run: What this run did itself.
    """

    items: int
    done: int
    failed: int
    run: Run

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work of a machine for a second of audio; `None` at the beginning."""
        return self.run.hours * 3600 / self.run.audio if self.run.audio else None


Show: TypeAlias = Callable[[Progress], object]


def run_bulk(
    source: str, reading: Mapping[str, Any], work: Work, options: BulkOptions, show: Show = lambda progress: None
) -> Progress:
    """Transcribe a manifest, and return how far it came: all of it.

    Args:
        source: Manifest, folder, or the address of one.
        reading: How it is read, see `read_items`.
        work: How recordings are transcribed.
        options: How the run goes.
        show: Called with the progress, every half second or so.

    Raises:
        DataError: If too many items failed; the message names the first.
        DragomanError: If the model, the options or the output is the cause.
    """
    if options.output_format == "parquet":
        require("pyarrow.parquet", "Writing Parquet")
    if options.runner == "ray":
        require("ray.data", "`--runner ray`")
    store = open_store(work.output)
    workers = options.workers or usual_workers()
    plan = _planned(store, source, reading, work, options, workers)
    parts = plan.share_of(*options.turn)
    if options.retry_failed:
        for entry in read_entries(store, parts, work.format).values():
            if entry.failures:
                store.move(entry.file, plan.parts[entry.part].redone)
    ledger = Ledger(store, parts, options)
    left = [part for part in parts if part.number not in ledger.entries]
    ledger.run = replace(ledger.run, workers=min(workers, max(len(left), 1)))
    total = sum(len(part.items) for part in parts)
    limit = options.max_bad_fraction * total
    known_bad = [(item.id, item.problem) for part in left for item in part.items if item.problem]
    _check_failures(source, ledger.failures + known_bad, limit, total)
    done, failures = sum(entry.items for entry in ledger.entries.values()), ledger.failures
    open_items: set[str] = set()  # done, in parts in progress: a part that is taken up again tells them again
    try:
        for kind, value in _events(work, left, options, workers) if left else ():
            if kind == "item" and value.id not in open_items:
                open_items.add(value.id)
                if value.is_new:
                    ledger.count(value)
                if value.error is not None:
                    failures.append((value.id, value.error))
            elif kind == "part":
                open_items -= {item.id for item in plan.parts[value.part].items}
                done += value.items
                ledger.add(value)
            elif kind == "machines":
                ledger.run = replace(ledger.run, machines=value)
            ledger.note()
            show(Progress(total, done + len(open_items), len(failures), ledger.run))
            _check_failures(source, failures, limit, total)
    finally:
        ledger.note(last=True)
    return Progress(total, done, len(failures), ledger.run)


def usual_workers() -> int:
    """Return the usual number of workers: one per GPU, else one per two CPU cores."""
    return len(visible_gpus()) or max(len(os.sched_getaffinity(0)) // 2, 1)


def _planned(
    store: Store, source: str, reading: Mapping[str, Any], work: Work, options: BulkOptions, workers: int
) -> Plan:
    """Return the plan of an output, with what is new in the manifest."""
    plan = load_plan(store)
    if plan is not None:
        check_settings(plan, work.settings, work.output)
    now = [os.path.abspath(source) if not is_remote(source) else source, signature(source)]
    if plan is not None and options.shard is not None and now[1] is not None and plan.source == now:
        return plan  # of a thousand tasks only the first reads a manifest of millions of lines
    items = read_items(source, reading)
    share = workers * options.turn[1]
    return extended(store, plan, items, work.settings, now, options.items_per_part or usual_size(len(items), share))


def _events(work: Work, parts: list[Part], options: BulkOptions, workers: int) -> Iterator[Event]:
    if options.runner == "local":
        threads = work.threads or max(len(os.sched_getaffinity(0)) // workers, 1)
        return run_local(replace(work, threads=threads), parts, workers)
    from dragoman.bulk.onray import run_on_ray  # only now: it starts Ray's log

    return run_on_ray(work, parts, options.workers, options.ray_address)


def _check_failures(source: str, failures: list[tuple[str, str]], limit: float, total: int) -> None:
    """Raise a `DataError` if too many items failed."""
    if len(failures) <= limit:
        return
    first = " ".join(f"[{name}: {reason}]" for name, reason in failures[:_LISTED])
    more = f" and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
    raise DataError(
        f"{source}: {len(failures)} of {total} items failed, more than the limit of {limit / total:.1%} "
        f"(`max_bad_fraction`). {first}{more}. What is done stays; the same command with a higher limit goes on."
    )


def status(output: str) -> dict[str, Any]:
    """Return the figures of an output, without changing it.

    `items`, `done`, `failed`, `parts`, `finished_parts`; `audio_hours` of finished parts; `machine_hours`,
    `real_time_factor`, `runs`: of all runs; `running`: those that wrote in the last minute; `failures`: id and reason.

    Raises:
        ModelNotFoundError: If nothing was written there.
    """
    if not is_remote(output) and not (Path(output) / STATE).is_dir():
        raise ModelNotFoundError(f"{output}: is no output of `dragoman bulk`. Check the spelling.")
    store = open_store(output)
    plan = load_plan(store)
    if plan is None:
        raise ModelNotFoundError(f"{output}: no run has read its manifest yet. Wait a moment, or check the spelling.")
    parts = plan.parts
    entries = read_entries(store, parts.values(), plan.settings["format"])
    runs = read_runs(store)
    found = facts(parts, entries, runs)
    found["done"] += count_rows(store.journals, [number for number in parts if number not in entries])
    found["runs"] = len(runs)
    found["running"] = [run for run in runs if run.is_alive]
    found["failures"] = [one for _, entry in sorted(entries.items()) for one in entry.failures]
    return found
