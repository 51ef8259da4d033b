"""Counters for `/metrics`, in the text format of Prometheus."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    """

    running: int = 0
    refused: int = 0
    audio_seconds: float = 0.0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=lambda: Histogram(_LATENCIES))
    batches: Histogram = field(default_factory=lambda: Histogram(_ROWS))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def observe_batch(self, rows: int) -> None:
        """Count a batch of windows; called by the threads of the models."""
        with self._lock:
            self.batches.add(rows)

    def text(self, loaded: list[str]) -> str:
        """Return everything in the text format."""
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
