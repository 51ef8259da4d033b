"""The server process: its socket, slow clients, signals, and the end of its work."""

import asyncio
import ctypes
import logging
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dragoman._lazy import require
from dragoman.server.app import create_app
from dragoman.server.guard import Guard, api_keys
from dragoman.server.jobs import Jobs
from dragoman.server.jobs_app import work_on_jobs
from dragoman.server.metrics import Metrics
from dragoman.server.models import Models
from dragoman.server.settings import ServerSettings
from dragoman.server.work import Work

_log = logging.getLogger("dragoman")

_HEADER_SECONDS = 10  # in which the headers of a request must have arrived
_UNLOAD_EVERY_S = 1.0


def serve(sources: dict[str, str | None], options: dict[str, Any], settings: ServerSettings) -> int:
    """Serve models until SIGTERM or Ctrl-C, and return the exit code.

    Args:
        sources: Folder or hub id of each model by its name.
        options: Arguments of `load_engine`: device, source, backend, compute_type, copy_weights.
        settings: How to listen, and what to accept.

    Raises:
        ConfigError: If the settings contradict each other.
        DragomanError: If `settings.preload` is set and a model cannot be loaded.
    """
    require("python_multipart", "`dragoman serve`")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is no HTTP
    keys = api_keys(settings)
    _limit_arenas()
    _raise_file_limit()
    metrics = Metrics()
    work = Work(Models(sources, options, settings, metrics.observe_batch), settings, metrics)
    if settings.preload:
        for name in sources:
            with work.models.use(name):
                pass
    jobs = None if settings.jobs is None else Jobs(settings.jobs, settings.jobs_keep_days, settings.max_jobs)
    app = create_app(work, jobs, lambda _: _life(work, jobs))

    def observe(path: str, status: int) -> None:
        metrics.answers[path, status] += 1

    guard = Guard(app, keys, settings.max_upload_mb << 20, settings.cors_origin, observe)
    server = _Server(_config(guard, settings), app)
    server.run()
    return 0 if server.started else 1


def _config(app: Any, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_protocol(settings.max_connections),
        ws="websockets-sansio",
        ws_max_size=1 << 20,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_graceful_shutdown=settings.drain_s,
        h11_max_incomplete_event_size=1 << 16,
    )


def _limit_arenas() -> None:
    """Let all threads share few memory arenas: glibc gives each its own, and the free memory of one serves no other."""
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def _raise_file_limit() -> None:
    """Allow as many open files as the system does: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@asynccontextmanager
async def _life(work: Work, jobs: Jobs | None) -> AsyncIterator[None]:
    async def unload() -> None:
        seconds = work.settings.unload_after_s
        while seconds is not None:
            await asyncio.sleep(min(_UNLOAD_EVERY_S, seconds))
            await asyncio.to_thread(work.models.unload_idle, seconds)

    tasks = [asyncio.create_task(unload())]
    if jobs is not None:
        tasks.append(asyncio.create_task(work_on_jobs(work, jobs)))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    work.close()
    if jobs is not None:
        jobs.close()


class _Server(uvicorn.Server):
    """A server that is not ready from the moment that it is told to end, and ends with 0 when its work is done."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C end the server in good order; a second one at once."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: Any = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        for server in self.servers:
            for one in server.sockets:
                host, port = one.getsockname()[:2]
                scheme = "https" if self.config.is_ssl else "http"
                _log.info("Listening on %s://%s:%d.", scheme, f"[{host}]" if ":" in host else host, port)

    def _end(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.state.ready = False


def _protocol(max_connections: int) -> type[H11Protocol]:
    """Return the HTTP protocol with what uvicorn's own lacks.

    Connections are limited in number, and headers must arrive in time.
    """

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if len(self.connections) >= max_connections:
                transport.abort()
                return
            super().connection_made(transport)
            self._expect_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
                self._expect_headers()
            elif self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _expect_headers(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    return Protocol
