"""Counters for `/metrics`, in the text format of Prometheus."""

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LATENCIES = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds
_ROWS = (1, 2, 4, 8, 16, 32)


class Histogram:
    """Counts of values up to each bound, as Prometheus has them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum, self.count = bounds, [0] * len(bounds), 0.0, 0

    def add(self, value: float) -> None:
        """Count a value."""
        self.sum += value
        self.count += 1
        for place, bound in enumerate(self.bounds):
            self.counts[place] += value <= bound

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield f"# TYPE {name} histogram"
        for bound, count in zip(self.bounds, self.counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self.count}'
        yield f"{name}_sum {self.sum:.6f}"
        yield f"{name}_count {self.count}"


class Snapshots:
    """The counters of other processes of the server: each writes its own to a file now and then.

    Args:
        folder: Where they write.
        number: The number of this process.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._own = folder, folder / f"{number}.txt"

    def write(self, text: str) -> None:
        """Write the counters of this process, for the others."""
        new = self._own.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self._own)

    def others(self) -> list[str]:
        """Return what the other processes wrote last."""
        return [path.read_text() for path in sorted(self._folder.glob("*.txt")) if path != self._own]


def _summed(texts: Iterable[str]) -> str:
    """Add up samples of the same name; all of them are counts."""
    sums: dict[str, float | None] = {}
    for line in "".join(texts).splitlines():
        name, _, value = line.rpartition(" ")
        if line.startswith("#"):
            sums[line] = None
        else:
            sums[name] = (sums.get(name) or 0) + float(value)
    return "".join(f"{name}\n" if value is None else f"{name} {value:.15g}\n" for name, value in sums.items())


@dataclass
class Metrics:
    """What has happened since the start.

    Attributes:
        running: Requests for a transcript in progress.
        refused: Those that came when there were too many.
        audio_seconds: Audio transcribed.
        answers: Responses by path and status.
        latency: Seconds from a request for a transcript to the end of its answer.
        batches: Windows decoded together.
        others: The counters of the other processes, if there are any.
    """

    running: int = 0
    refused: int = 0
    audio_seconds: float = 0.0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=lambda: Histogram(_LATENCIES))
    batches: Histogram = field(default_factory=lambda: Histogram(_ROWS))
    others: Snapshots | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def observe_batch(self, rows: int) -> None:
        """Count a batch of windows; called by the threads of the models."""
        with self._lock:
            self.batches.add(rows)

    def text(self, loaded: list[str]) -> str:
        """Return the counters of all processes in the text format."""
        own = self.own_text(loaded)
        return own if self.others is None else _summed([own, *self.others.others()])

    def own_text(self, loaded: list[str]) -> str:
        """Return the counters of this process in the text format."""
        lines = [
            "# TYPE dragoman_requests_running gauge",
            f"dragoman_requests_running {self.running}",
            "# TYPE dragoman_requests_refused_total counter",
            f"dragoman_requests_refused_total {self.refused}",
            "# TYPE dragoman_audio_seconds_total counter",
            f"dragoman_audio_seconds_total {self.audio_seconds:.3f}",
            "# TYPE dragoman_models_loaded gauge",
            f"dragoman_models_loaded {len(loaded)}",
            "# TYPE dragoman_responses_total counter",
            *(
                f'dragoman_responses_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self.answers.items())
            ),
            *self.latency.lines("dragoman_request_seconds"),
            *self.batches.lines("dragoman_batch_windows"),
        ]
        return "\n".join(lines) + "\n"
