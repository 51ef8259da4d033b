"""The HTTP server of a process: its socket, slow clients, and signals."""

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dragoman.errors import ConfigError
from dragoman.server.settings import ServerSettings

_HEADER_SECONDS = 10  # in which the headers of a request must have arrived


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {host} cannot be listened on: {error.strerror}. Choose another with --port and --host."
        ) from error


def check_certificate(settings: ServerSettings) -> None:
    """Try the files of HTTPS, if it is served.

    Raises:
        ConfigError: If one cannot be read, they are no certificate and key, or do not belong together.
    """
    if settings.ssl_certfile is None or settings.ssl_keyfile is None:
        return
    for flag, file in (("--ssl_certfile", settings.ssl_certfile), ("--ssl_keyfile", settings.ssl_keyfile)):
        try:
            file.open("rb").close()
        except OSError as error:
            raise ConfigError(f"`{flag}` {file} cannot be read: {error.strerror}.") from error
    try:  # with a password, so that nobody is asked for one
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, "none")
    except ssl.SSLError as error:
        raise ConfigError(
            f"`--ssl_certfile` {settings.ssl_certfile} and `--ssl_keyfile` {settings.ssl_keyfile} are no certificate "
            f"and its key ({error.reason or error}). Both must be PEM files, and the key must have no password."
        ) from error


def url_of(listening: socket.socket, settings: ServerSettings) -> str:
    """Return the address of the server."""
    host, port = listening.getsockname()[:2]
    scheme = "http" if settings.ssl_certfile is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class HttpServer(uvicorn.Server):
    """A server that is not ready from the moment that it is told to end, and ends when its work is done.

    Args:
        guard: The application to serve.
        app: Where its state is kept.
        settings: The limits.
        started: Called when it takes requests.
    """

    def __init__(self, guard: Any, app: FastAPI, settings: ServerSettings, started: Callable[[], None]) -> None:
        super().__init__(_config(guard, settings))
        self._app, self._started = app, started

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
        """Start, and tell so."""
        await super().startup(sockets)
        self._started()

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


def _config(app: Any, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
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
