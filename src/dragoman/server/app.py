"""The web application: its paths, and what becomes of errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, WebSocket
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from dragoman._version import __version__
from dragoman.server.batching import Request
from dragoman.server.decoders import Samples
from dragoman.server.errors import ApiError, api_error
from dragoman.server.formats import MEDIA_TYPES, Events, answer, event
from dragoman.server.forms import (
    Fields,
    TranscriptionFields,
    TranslationFields,
    body_schema,
    fields_of,
    invalid_field,
    label_of,
    read_form,
    upload_of,
)
from dragoman.server.jobs import Jobs
from dragoman.server.jobs_app import add_jobs
from dragoman.server.live import LiveSession
from dragoman.server.pages import add_page
from dragoman.server.work import Whole, Work

_ERROR: dict[str, Any] = {
    "description": "An error in OpenAI's form.",
    "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
}
_ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys(
    (400, 401, 403, 404, 408, 409, 413, 415, 429, 503, 504), _ERROR
)
_BODIES = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/x-subrip", "text/vtt")}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript, in the form of `response_format`, or events with `stream`.",
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["text"]}},
            "text/event-stream": {"schema": {"type": "string"}},
            **_BODIES,
        },
    },
    **_ERRORS,
}


def create_app(work: Work, jobs: Jobs | None, lifespan: Callable[[FastAPI], Any]) -> FastAPI:
    """Return the application.

    Args:
        work: What answers requests.
        jobs: The jobs, if there may be any.
        lifespan: What starts and ends with the application.
    """
    app = FastAPI(
        title="dragoman",
        version=__version__,
        summary="Speech to text, with OpenAI's audio API.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.ready = True
    _add_errors(app)
    _add_audio(app, work)
    _add_status(app, work)
    if jobs is not None:
        add_jobs(app, work, jobs, _ERRORS)
    add_page(app)
    return app


def _add_audio(app: FastAPI, work: Work) -> None:
    @app.post(
        "/v1/audio/transcriptions",
        openapi_extra=body_schema(TranscriptionFields),
        responses=_ANSWER,
        response_class=Response,
    )
    async def transcriptions(request: HttpRequest) -> Response:
        """Transcribe a recording in its language."""
        return await _answered(work, request, TranscriptionFields, "transcribe")

    @app.post(
        "/v1/audio/translations",
        openapi_extra=body_schema(TranslationFields),
        responses=_ANSWER,
        response_class=Response,
    )
    async def translations(request: HttpRequest) -> Response:
        """Transcribe a recording in English."""
        return await _answered(work, request, TranslationFields, "translate")

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        """Transcribe live audio."""
        offered = socket.scope.get("subprotocols") or []
        await socket.accept("realtime" if "realtime" in offered else None)
        try:
            with work.admitted():
                await LiveSession(work, socket).run()
        except ApiError as error:
            await socket.send_json({"type": "error", **error.body()})
            await socket.close(1013, "too many requests")


def _add_status(app: FastAPI, work: Work) -> None:
    def described(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": work.models.created, "owned_by": "dragoman"}

    @app.get("/v1/models/", include_in_schema=False)
    @app.get("/v1/models", responses=_ERRORS)
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [described(name) for name in work.models.names]}

    @app.get("/v1/models/{model:path}", responses=_ERRORS)
    async def model(model: str) -> dict[str, Any]:
        """Describe a model."""
        return described(work.models.check(model))

    @app.head("/health", include_in_schema=False)  # what `curl -I` and load balancers ask
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the server lives."""
        return {"status": "ok"}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", responses={503: _ERROR})
    async def ready() -> dict[str, str]:
        """Tell whether the server takes requests."""
        if not app.state.ready:
            raise ApiError(503, "The server is starting or ending.", code="not_ready", headers={"Retry-After": "5"})
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counters in the text format of Prometheus."""
        return PlainTextResponse(work.metrics.text(work.models.loaded), media_type="text/plain; version=0.0.4")


def _add_errors(app: FastAPI) -> None:
    async def known(_: HttpRequest, error: Exception) -> JSONResponse:
        problem = api_error(error)
        return JSONResponse(problem.body(), problem.status, problem.headers)

    async def http(_: HttpRequest, error: Exception) -> JSONResponse:
        assert isinstance(error, StarletteHTTPException)
        problem = ApiError(error.status_code, f"{error.detail}.", headers=dict(error.headers or {}))
        return JSONResponse(problem.body(), problem.status, problem.headers)

    async def invalid(_: HttpRequest, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problem = invalid_field(error.errors())
        return JSONResponse(problem.body(), problem.status)

    handlers: dict[type[Exception], Callable[[HttpRequest, Exception], Awaitable[JSONResponse]]] = {
        ApiError: known,
        StarletteHTTPException: http,
        HTTPException: http,
        RequestValidationError: invalid,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _answered(work: Work, request: HttpRequest, kind: type[Fields], task: str) -> Response:
    """Answer a request for a transcript."""
    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(work.admitted())
            begin = time.monotonic()
            stack.callback(lambda: work.metrics.latency.add(time.monotonic() - begin))
            return await _transcribed(work, request, kind, task, stack)
    except Exception as error:
        raise api_error(error) from error


async def _transcribed(
    work: Work, request: HttpRequest, kind: type[Fields], task: str, stack: AsyncExitStack
) -> Response:
    progress = Request(_time_limit(request, work.settings.request_timeout_s))
    form = await stack.enter_async_context(read_form(request, work.settings.upload_timeout_s))
    fields = fields_of(kind, form)
    fields.model = work.models.check(fields.model)
    upload = upload_of(form)
    async with _watched(request, progress):
        samples = await work.decode(progress, upload.file, label_of(upload))
        stack.callback(samples.close)
        if not fields.stream:
            async for part in work.transcribe(progress, samples, fields):
                if isinstance(part, Whole):
                    body = answer(part.transcript, fields, task, part.logprobs)
            return Response(body, media_type=MEDIA_TYPES[fields.response_format])
    later = stack.pop_all()
    return StreamingResponse(
        _events(work, progress, samples, Events(fields, task, samples.seconds), fields, later),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(
    work: Work, progress: Request, samples: Samples, events: Events, fields: Fields, stack: AsyncExitStack
) -> AsyncIterator[str]:
    async with stack:
        try:
            async for part in work.transcribe(progress, samples, fields):
                if isinstance(part, Whole):
                    yield events.done(part.transcript, part.logprobs)
                else:
                    for one in events.segment(part.segment, part.logprobs):
                        yield one
        except Exception as error:
            yield event(api_error(error).body())
        finally:
            progress.cancel()


def _time_limit(request: HttpRequest, most: float) -> float:
    """Return how many seconds a request may take.

    Raises:
        ApiError: If its header is no number above 0.
    """
    given = request.headers.get("x-request-timeout")
    try:
        seconds = most if given is None else float(given)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ApiError(
            400, f"`X-Request-Timeout` must be seconds above 0, but is {str(given)[:100]!r}.", code="invalid_value"
        )
    return min(seconds, most)


@asynccontextmanager
async def _watched(request: HttpRequest, progress: Request) -> AsyncIterator[None]:
    """Cancel a request when its client leaves, and when its time is over."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        progress.cancel()

    watcher = asyncio.create_task(watch())
    try:
        async with asyncio.timeout(progress.remaining):
            yield
    except TimeoutError:
        raise ApiError(504, "The request took longer than its time limit.", code="timeout") from None
    finally:
        watcher.cancel()
