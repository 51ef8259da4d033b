"""What every request passes: the API key, the size of its body, and the headers of the answer."""

import asyncio
import hmac
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dragoman.errors import ConfigError
from dragoman.server.errors import ApiError
from dragoman.server.settings import ServerSettings

LOCAL = ("127.0.0.1", "localhost", "::1")
_KEY_PROTOCOL = "openai-insecure-api-key."  # how a browser sends a key for a WebSocket
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LINGER_SECONDS = 3  # in which the rest of a refused body is read
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self)",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": _CSP,
}

_ENDING = ApiError(
    503,
    "The server ended before this request was done (--drain_s). Send it again.",
    code="shutting_down",
    headers={"Retry-After": "10"},
)


def api_keys(settings: ServerSettings) -> tuple[str, ...]:
    """Return the keys that open the server.

    Raises:
        ConfigError: If the file cannot be read or has none, or other machines could reach a server without any.
    """
    keys = [os.environ.get("DRAGOMAN_API_KEY", "").strip()]
    if settings.api_key_file is not None:
        try:
            own = settings.api_key_file.read_text().split("\n")
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"`--api_key_file` {settings.api_key_file} cannot be read: {error}.") from error
        if not any(line.strip() for line in own):
            raise ConfigError(f"`--api_key_file` {settings.api_key_file} has no key. Write one per line.")
        keys += own
    found = tuple(key for key in map(str.strip, keys) if key)
    if not found and settings.host not in LOCAL:
        raise ConfigError(
            f"`--host` {settings.host} lets other machines use the server, so it needs an API key: set --api_key_file, "
            "or DRAGOMAN_API_KEY in the environment."
        )
    return found


class Guard:
    """An ASGI application in front of another.

    Args:
        app: The other.
        keys: The keys, any of which opens `/v1`; without any it is open.
        max_bytes: Maximum size of a body.
        cors_origin: Origin of other pages whose scripts may use the server.
        observe: Called with the path and the status of each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Iterable[str],
        max_bytes: int,
        cors_origin: str | None,
        observe: Callable[[str, int], None],
    ) -> None:
        self._app, self._max_bytes, self._origin, self._observe = app, max_bytes, cors_origin, observe
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers, body = Headers(scope=scope), _Body(receive, self._max_bytes)
        if scope["type"] == "http":
            receive, send = body.receive, self._with_headers(scope, body, send)
            if self._origin is not None and scope["method"] == "OPTIONS":
                await JSONResponse({}, headers=self._cors())(scope, receive, send)
                return
        try:
            self._check(scope, headers)
        except ApiError as error:
            await _refuse(error, scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http" or body.is_answered:
                raise
            await _refuse(_ENDING, scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        if scope["path"].startswith("/v1") and not self._is_open_to(headers):
            raise ApiError(
                401,
                "The API key is missing or wrong. Send `Authorization: Bearer KEY`.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope["path"].startswith("/v1"):
            self._check_origin(headers)
        if scope["type"] == "websocket":
            return
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "The body must not be compressed (Content-Encoding).", code="unsupported_encoding")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_bytes:
            raise _too_large(self._max_bytes)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse scripts of other pages: a browser sends where they come from, and what it takes the server for."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin not in (None, self._origin) and origin.partition("://")[2] != host:
            raise ApiError(403, "Pages of other origins may not use this server (--cors_origin).", code="origin")
        if not self._keys and _hostname(host) not in LOCAL:
            raise ApiError(403, f"Without an API key the server is used as localhost, not {host[:100]!r}.", code="host")

    def _is_open_to(self, headers: Headers) -> bool:
        kind, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if kind.lower() == "bearer" else ""
        for protocol in headers.get("sec-websocket-protocol", "").split(","):
            if protocol.strip().startswith(_KEY_PROTOCOL):
                given = protocol.strip().removeprefix(_KEY_PROTOCOL)
        # All keys are compared, and each in a time that does not depend on how much of it is right.
        equal = [hmac.compare_digest(given.encode(), key) for key in self._keys]
        return any(equal) or not self._keys

    def _cors(self) -> dict[str, str]:
        if self._origin is None:
            return {}
        return {
            "access-control-allow-origin": self._origin,
            "access-control-allow-headers": "authorization, content-type, x-request-timeout",
            "access-control-allow-methods": "GET, POST, DELETE",
            "vary": "origin",
        }

    def _with_headers(self, scope: Scope, body: "_Body", send: Send) -> Send:
        added = [(name.encode(), value.encode()) for name, value in {**_HEADERS, **self._cors()}.items()]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._observe(getattr(scope.get("route"), "path", "other"), message["status"])
                body.is_answered = True
                close = [] if await body.is_read(scope) else [(b"connection", b"close")]
                message = {**message, "headers": [*message.get("headers", []), *added, *close]}
            await send(message)

        return with_headers


class _Body:
    """The body of a request, up to a limit; what an early answer leaves unread is read and dropped, within limits."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive, self._max_bytes = receive, max_bytes
        self._count, self._is_complete, self.is_answered = 0, False, False

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            ApiError: If the body is too large.
        """
        message = await self._receive()
        self._count += len(message.get("body", b""))
        self._is_complete = self._is_complete or not message.get("more_body", False)
        if self._count > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message

    async def is_read(self, scope: Scope) -> bool:
        """Return whether nothing of the body is left: a client reads the answer only when it has sent everything."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                # A client that waits for the word to go on sends nothing if it gets an answer.
                while not self._is_complete and b"100-continue" not in dict(scope["headers"]).get(b"expect", b""):
                    with suppress(ApiError):
                        await self.receive()
                    if self._count > 4 * self._max_bytes:
                        break
        return self._is_complete


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The request may have {max_bytes >> 20} MiB. Compress the recording (FLAC, Opus), or split it.",
        code="request_too_large",
    )


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    response: Any = JSONResponse(error.body(), error.status, error.headers)
    await response(scope, receive, send)
