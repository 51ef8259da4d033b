"""`dragoman bulk`: archives, by many processes, on one machine or many; and how far a run is."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from typer import Argument

from dragoman._interrupts import raise_again
from dragoman._lazy import require
from dragoman.bulk.settings import BulkOptions, Work
from dragoman.cli.console import LOG
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.cli.progress import progress_bar
from dragoman.cli.reading import DataFlags
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option
from dragoman.transcriber.options import TranscribeOptions

_LISTED = 20  # failures on standard error


@dataclass(frozen=True, kw_only=True)
class StatusFlags:
    """How `dragoman bulk status` answers."""

    json: bool = partial(option, group="Status")(False, "Print one JSON object.")


@with_flags
def bulk(
    source: Annotated[str, Argument(help="Manifest, folder or address of one (s3://…); or status.")],
    output: Annotated[str | None, Argument(help="With status: the output to report on.")] = None,
    *,
    run: BulkOptions,
    reading: DataFlags,
    model: ModelFlags,
    options: TranscribeOptions,
    answer: StatusFlags,
    messages: MessageFlags,
) -> int:
    """Transcribe an archive: every recording exactly once, whatever stops meanwhile.

    The same command again goes on where a run stopped. The exit code is 1 if some items failed; they are listed in
    failures.jsonl in the output. dragoman bulk status OUTPUT reports from another terminal.
    """
    running: Any = require("dragoman.bulk.running", "`dragoman bulk`")
    if source == "status" and output is not None:
        return _status(running.status(output), output, run.price_per_hour, answer.json)
    if output is not None:
        raise ConfigError(f"There is one manifest or folder, but also {output!r}. Results go to `-o {output}`.")
    if run.output_dir is None:
        raise ConfigError("`--output_dir` is missing: the folder or address for the results. Add -o FOLDER.")
    loading = {
        "device": model.device,
        "source": model.source(),
        "backend": model.backend,
        "copy_weights": model.copy_weights,
        "compute_type": model.compute_type,
    }
    work = Work(
        output=run.output_dir,
        model=model.model,
        loading=loading,
        options=options,
        format=run.output_format,
        subtitles=run.subtitles,
        retry_failed=run.retry_failed,
        threads=model.threads,
    )
    raise_again()  # Ctrl-C lets the workers note what they were at
    with progress_bar("transcribing", None, not messages.json_logs, unit="items") as bar:
        done = running.run_bulk(
            source,
            reading.read(),
            work,
            run,
            lambda progress: bar.update(progress.done, progress.items, _label(progress)),
        )
    if done.failed:
        LOG.error("%d of %d items failed; %s/failures.jsonl has the reasons.", done.failed, done.items, run.output_dir)
    print(_summary(done, run.price_per_hour))  # noqa: T201
    return 1 if done.failed else 0


def _label(progress: Any) -> str:
    """Return what the progress bar says: hours of audio, speed and failures so far."""
    factor = progress.real_time_factor
    speed = f", real-time factor {factor:.3f}" if factor else ""
    return f"{progress.run.audio / 3600:.2f} hours of audio{speed}, {progress.failed} failed"


def _summary(done: Any, price: float | None) -> str:
    run = done.run
    wall = run.seen - run.started
    text = f"{done.done} of {done.items} items are done, {done.failed} failed; {run.items} in this run: "
    text += f"{run.audio / 3600:.2f} hours of audio in {wall / 3600:.2f} hours"
    return text + _speed(done.real_time_factor, price)


def _speed(factor: float | None, price: float | None) -> str:
    if not factor:
        return "."
    text = f", real-time factor {factor:.3f} ({1 / factor:.1f} times as fast as speech)."
    if price is not None:
        text += f" 1,000 hours of audio take {1000 * factor:.1f} machine hours and cost {1000 * factor * price:.2f}."
    return text


def _status(found: dict[str, Any], output: str, price: float | None, as_json: bool) -> int:
    """Print the figures of an output; the exit code is 1 if items failed."""
    if as_json:
        print(json.dumps({**found, "running": len(found["running"])}, ensure_ascii=False))  # noqa: T201
        return 1 if found["failed"] else 0
    lines = [
        f"{output}: {found['done']} of {found['items']} items are done, {found['failed']} failed; "
        f"{found['finished_parts']} of {found['parts']} parts, {found['audio_hours']:.2f} hours of audio."
    ]
    for run in found["running"]:
        speed, left = run.items / max(run.seen - run.started, 1e-9), found["items"] - found["done"]
        until = f", about {left / speed / len(found['running']) / 60:.0f} minutes left" if speed else ""
        lines.append(f"running on {run.host}, process {run.pid}: {run.workers} workers{until}")
    hours = f"{found['runs']} runs so far: {found['machine_hours']:.2f} machine hours"
    lines.append(hours + _speed(found["real_time_factor"], price))
    lines += [f"failed: {name}: {reason}" for name, reason in found["failures"][:_LISTED]]
    if len(found["failures"]) > _LISTED:
        lines.append(f"… and {len(found['failures']) - _LISTED} more in failures.jsonl")
    print("\n".join(lines))  # noqa: T201
    return 1 if found["failed"] else 0
