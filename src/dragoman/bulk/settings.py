"""The options of a bulk run, and what a worker must know of them."""

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property, partial
from typing import Any, Literal

from dragoman.errors import ConfigError
from dragoman.transcriber.fields import documented, option, too_small
from dragoman.transcriber.options import TranscribeOptions

_run, _result = partial(option, group="Run"), partial(option, group="Output")

Format = Literal["jsonl", "parquet"]

# How fast a worker goes, but nothing that it writes: may differ between the runs of one output.
_FREE = frozenset({"batch_size"})


@documented
@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """How an archive is transcribed, and where results go."""

    output_dir: str | None = _result(
        None, "Folder or `s3://…` for the results; the same one again goes on where a run stopped.", short="-o"
    )
    output_format: Format = _result("jsonl", "Format of the parts; `parquet` needs the extra `cloud`.", short="-f")
    subtitles: str | None = _result(
        None,
        "Also write a file for each recording, below `subtitles` in the output: `srt`, `vtt`, `txt`, `tsv`, `json`, "
        "several (`srt,json`) or `all`.",
    )
    items_per_part: int | None = _result(
        None,
        "Items in a file of the output.",
        unset="an eighth of each worker's share, but from 32 to 500; fewer if there are few or if they are large",
        at_least=1,
    )
    runner: Literal["local", "ray"] = _run(
        "local", "`local` starts processes on this machine; `ray` uses a cluster, and needs the extra `ray`."
    )
    workers: int | None = _run(
        None,
        "Number of processes, each with its own model.",
        unset="one per GPU, else one per two CPU cores; with Ray as many as fit",
        at_least=1,
    )
    shard: str | None = _run(
        None, "`I/N`: the I-th of N independent runs over the same manifest and output, as in a job array; I from 1."
    )
    max_bad_fraction: float = _run(
        0.05, "Largest share of items that may fail, 0 to 1; above it the run stops with the exit code 5."
    )
    retry_failed: bool = _run(False, "Transcribe items again that failed in an earlier run.")
    price_per_hour: float | None = _run(
        None, "Price of a machine for an hour; the summary then has the cost of 1,000 hours of audio."
    )
    ray_address: str | None = _run(None, "Address of a Ray cluster.", unset="the running one, else a new one here")

    def __post_init__(self) -> None:
        problems = list(too_small(self))
        if not 0 <= self.max_bad_fraction <= 1:
            problems.append(f"`max_bad_fraction` must be a share from 0 to 1, but is {self.max_bad_fraction}.")
        if self.price_per_hour is not None and not self.price_per_hour >= 0:
            problems.append(f"`price_per_hour` must be 0 or more, but is {self.price_per_hour}.")
        if self.subtitles is not None:
            # only now: it needs NumPy, which `--help` of every command does without
            from dragoman.transcriber.writers import formats_of

            formats_of(self.subtitles)
        if self.shard is not None and self._shard_of(self.shard) is None:
            problems.append(f"`shard` must be I/N with I from 1 to N, as in 3/8, but is {self.shard!r}.")
        if problems:
            raise ConfigError(" ".join(problems))

    @staticmethod
    def _shard_of(text: str) -> tuple[int, int] | None:
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            return None
        return int(found[1]), int(found[2])

    @property
    def turn(self) -> tuple[int, int]:
        """Which of how many runs this is: (1, 1) for one alone."""
        return self._shard_of(self.shard or "1/1") or (1, 1)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a worker needs to know; it travels to other processes and machines.

    Attributes:
        output: Folder or address of the results.
        model: Name of the model; `None` for the default one.
        loading: Further arguments of `dragoman.transcriber.loading.load_engine`.
        options: How recordings are transcribed.
        format: Of the parts.
        subtitles: Formats of the files beside them; `None` for none.
        retry_failed: Whether to transcribe items again that failed.
        threads: CPU threads of the model; `None` leaves the choice to the backend.
    """

    output: str
    model: str | None
    loading: dict[str, Any]
    options: TranscribeOptions
    format: Format = "jsonl"
    subtitles: str | None = None
    retry_failed: bool = False
    threads: int | None = None

    @cached_property
    def changed_options(self) -> dict[str, Any]:
        """The options that differ from their defaults, as plain values for JSON."""
        defaults = {one.name: one.default for one in fields(TranscribeOptions) if one.default is not MISSING}
        values = {
            name: value for name, value in asdict(self.options).items() if value != defaults[name] and name not in _FREE
        }
        values |= {} if self.loading["compute_type"] == "default" else {"compute_type": self.loading["compute_type"]}
        plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
        return plain

    @property
    def settings(self) -> dict[str, Any]:
        """What all results of an output share, so that results of different options are never mixed."""
        return {
            "model": self.model,
            "revision": self.loading["source"]["revision"],
            "options": self.changed_options,
            "format": self.format,
            "subtitles": self.subtitles,
        }
