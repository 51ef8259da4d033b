"""From an upload to its transcript: the steps of a request, in the threads that do them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from dragoman.audio.waveform import Waveform
from dragoman.server.batching import Request, current_request
from dragoman.server.decoders import Decoders, Samples
from dragoman.server.errors import ApiError
from dragoman.server.formats import token_logprobs
from dragoman.server.forms import Fields
from dragoman.server.metrics import Metrics
from dragoman.server.models import Models
from dragoman.server.settings import ServerSettings
from dragoman.transcriber.result import Segment, Transcript
from dragoman.transcriber.segment_stream import SegmentStream
from dragoman.transcriber.segmenting import Examined

_T = TypeVar("_T")
Logprobs = list[dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """A segment as it is decoded, and the log-probabilities of its tokens if they were asked for."""

    segment: Segment
    logprobs: Logprobs


@dataclass(frozen=True)
class Whole:
    """The transcript, and the log-probabilities of all its tokens."""

    transcript: Transcript
    logprobs: Logprobs


class Work:
    """What all requests share.

    Args:
        models: The models.
        settings: The limits.
        metrics: Where requests are counted.
    """

    def __init__(self, models: Models, settings: ServerSettings, metrics: Metrics) -> None:
        self.models, self.settings, self.metrics = models, settings, metrics
        self.decoders = Decoders(settings)
        self._threads = ThreadPoolExecutor(settings.max_requests + 8, thread_name_prefix="request")
        self._lock = threading.Lock()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request in.

        Raises:
            ApiError: If there are too many.
        """
        with self._lock:
            if self.metrics.running >= self.settings.max_requests:
                self.metrics.refused += 1
                raise ApiError(
                    429,
                    f"The server works on {self.settings.max_requests} requests. Come again in a moment.",
                    code="too_many_requests",
                    headers={"Retry-After": "1"},
                )
            self.metrics.running += 1
        try:
            yield
        finally:
            with self._lock:
                self.metrics.running -= 1

    async def run(self, request: Request, function: Callable[[], _T]) -> _T:
        """Call a function in a thread that works for a request; cancels the request if the caller is cancelled."""
        context = copy_context()
        context.run(current_request.set, request)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, context.run, function)
        except asyncio.CancelledError:
            request.cancel()
            raise

    def close(self) -> None:
        """End the processes and threads."""
        self.decoders.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def decode(self, request: Request, upload: IO[bytes], name: str) -> Samples:
        """Decode an upload to samples."""
        return await self.run(request, lambda: self.decoders.decode(upload, name))

    async def transcribe(self, request: Request, samples: Samples, fields: Fields) -> AsyncIterator[Part | Whole]:
        """Yield the segments as they are decoded, and then the transcript."""
        parts: asyncio.Queue[Part | Whole | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                for part in self._parts(request, samples, fields):
                    loop.call_soon_threadsafe(parts.put_nowait, part)
            finally:
                loop.call_soon_threadsafe(parts.put_nowait, None)

        running = asyncio.create_task(self.run(request, work))
        try:
            while (part := await parts.get()) is not None:
                yield part
            await running
        finally:
            request.cancel()
            if not running.done():
                await asyncio.wait([running])  # soon: it looks at the request before each batch
            if not running.cancelled():
                running.exception()

    def _parts(self, request: Request, samples: Samples, fields: Fields) -> Iterator[Part | Whole]:
        with self.models.use(fields.model) as engine:
            request.check()
            found: dict[int, Logprobs] = {}
            logprobs: Logprobs = []

            def examine(window: Examined) -> None:
                found.update(token_logprobs(window, engine.text))

            stream = SegmentStream(
                engine,
                _checked(samples.blocks(), request),
                None,
                fields.options(aligns=engine.facts.has_cross_attention),
                examine if fields.include else None,
            )
            for segment in stream:
                request.check()
                own = found.pop(segment.id, [])
                logprobs += own
                yield Part(segment, own)
            self.metrics.audio_seconds += samples.seconds
            yield Whole(stream.transcript(), logprobs)


def _checked(blocks: Iterator[Waveform], request: Request) -> Iterator[Waveform]:
    for block in blocks:
        request.check()
        yield block
