"""`dragoman serve`: one server process, or several behind one port."""

import asyncio
import ctypes
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from dragoman._lazy import require
from dragoman.errors import DragomanError
from dragoman.server.app import create_app
from dragoman.server.guard import Guard, api_keys
from dragoman.server.http_server import HttpServer, bind, check_certificate, url_of
from dragoman.server.jobs import Jobs
from dragoman.server.jobs_app import work_on_jobs
from dragoman.server.metrics import Metrics, Snapshots
from dragoman.server.models import Models
from dragoman.server.settings import ServerSettings
from dragoman.server.work import Work
from dragoman.server.workers import Worker, run_workers
from dragoman.transcriber.loading import runner_class

_log = logging.getLogger("dragoman")

_UNLOAD_EVERY_S = 1.0
_SNAPSHOT_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is served, and how.

    Attributes:
        sources: Folder or hub id of each model by its name.
        options: Arguments of `load_engine`: device, source, backend, compute_type, copy_weights.
        threads: CPU threads of a model; `None` for all.
        settings: How to listen, and what to accept.
    """

    sources: dict[str, str | None]
    options: dict[str, Any]
    threads: int | None
    settings: ServerSettings


def serve(service: Service, session: Callable[[], AbstractContextManager[None]] = nullcontext) -> int:
    """Serve models until SIGTERM or Ctrl-C, and return the exit code.

    Args:
        service: What is served.
        session: What sets up the messages of another process; can be pickled.

    Raises:
        ConfigError: If the settings contradict each other.
        DragomanError: If `preload` is set and a model cannot be loaded.
    """
    require("python_multipart", "`dragoman serve`")
    settings = service.settings
    api_keys(settings)  # so that a wrong file is told before anything starts
    check_certificate(settings)
    with bind(settings.host, settings.port) as listening:
        if settings.jobs is not None:
            jobs = _jobs(settings)
            jobs.recover()
            jobs.close()
        announce = partial(_log.info, "Listening on %s.", url_of(listening, settings))
        if settings.workers > 1:
            return run_workers(settings.workers, partial(_work, service, session), listening, announce)
        return _run(service, listening, announce, None)


def _work(service: Service, session: Callable[[], AbstractContextManager[None]], worker: Worker) -> int:
    """Serve in a process of its own."""
    with session():
        _log.setLevel(min(_log.level, logging.INFO))
        try:
            return _run(service, worker.listening, worker.tell_ready, worker)
        except DragomanError as error:
            _log.error("%s", error)
            return error.exit_code


def _run(service: Service, listening: socket.socket, started: Callable[[], None], worker: Worker | None) -> int:
    settings, metrics = service.settings, Metrics()
    threads = service.threads
    if threads is None and worker is not None:
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
    if threads is not None:
        runner_class(service.options["backend"]).set_threads(threads)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is no HTTP
    _limit_arenas()
    _raise_file_limit()
    if worker is not None:
        metrics.others = Snapshots(worker.folder, worker.number)
    work = Work(Models(service.sources, service.options, settings, metrics.observe_batch), settings, metrics)
    if settings.preload:
        for name in service.sources:
            with work.models.use(name):
                pass
    jobs = None if settings.jobs is None else _jobs(settings)
    if jobs is not None and worker is not None and worker.number == 0:
        jobs.requeue()  # of an earlier process in its place
    works_on_jobs = worker is None or worker.number == 0
    app = create_app(work, jobs, lambda _: _life(work, jobs, works_on_jobs))

    def observe(path: str, status: int) -> None:
        metrics.answers[path, status] += 1

    guard = Guard(app, api_keys(settings), settings.max_upload_mb << 20, settings.cors_origin, observe)
    server = HttpServer(guard, app, settings, started)
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _jobs(settings: ServerSettings) -> Jobs:
    assert settings.jobs is not None
    return Jobs(settings.jobs, settings.jobs_keep_days, settings.max_jobs)


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
async def _life(work: Work, jobs: Jobs | None, works_on_jobs: bool) -> AsyncIterator[None]:
    async def unload() -> None:
        seconds = work.settings.unload_after_s
        while seconds is not None:
            await asyncio.sleep(min(_UNLOAD_EVERY_S, seconds))
            await asyncio.to_thread(work.models.unload_idle, seconds)

    async def share_metrics() -> None:
        while work.metrics.others is not None:
            await asyncio.to_thread(work.metrics.others.write, work.metrics.own_text(work.models.loaded))
            await asyncio.sleep(_SNAPSHOT_EVERY_S)

    tasks = [asyncio.create_task(unload()), asyncio.create_task(share_metrics())]
    if jobs is not None and works_on_jobs:
        tasks.append(asyncio.create_task(work_on_jobs(work, jobs)))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    work.close()
    if jobs is not None:
        if works_on_jobs:
            jobs.release()
        jobs.close()
