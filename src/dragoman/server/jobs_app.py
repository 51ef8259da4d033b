"""The paths of jobs, and the task that works on them, one after the other."""

import asyncio
import json
import logging
import sqlite3
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, Response
from fastapi import Request as HttpRequest

from dragoman.server.batching import Request
from dragoman.server.errors import ApiError, CancelledRequestError, api_error
from dragoman.server.formats import MEDIA_TYPES, answer
from dragoman.server.forms import (
    Fields,
    TranscriptionFields,
    TranslationFields,
    body_schema,
    fields_of,
    label_of,
    read_form,
    upload_of,
)
from dragoman.server.jobs import Jobs
from dragoman.server.work import Whole, Work

_log = logging.getLogger("dragoman")

_PAUSE_S = 5.0

_KINDS: dict[str, type[Fields]] = {"transcribe": TranscriptionFields, "translate": TranslationFields}


def add_jobs(app: FastAPI, work: Work, jobs: Jobs, errors: dict[int | str, dict[str, Any]]) -> None:
    """Add the paths of jobs to an application."""
    body = body_schema(TranscriptionFields)
    schema = body["requestBody"]["content"]["multipart/form-data"]["schema"]
    schema["properties"]["task"] = {"enum": list(_KINDS), "default": "transcribe"}

    @app.post("/v1/jobs", openapi_extra=body, responses=errors, status_code=202)
    async def submit(request: HttpRequest) -> dict[str, Any]:
        """Transcribe a recording later; the fields are those of a transcription, and `task`."""
        try:
            async with read_form(request, work.settings.upload_timeout_s) as form:
                task = form.get("task") or "transcribe"
                if not isinstance(task, str) or task not in _KINDS:
                    raise ApiError(400, f"`task` must be {' or '.join(_KINDS)}.", code="invalid_value", param="task")
                fields = fields_of(_KINDS[task], form)
                fields.model, fields.stream = work.models.check(fields.model), False
                upload = upload_of(form)
                values = fields.model_dump(mode="json")
                return await asyncio.to_thread(jobs.add, upload.file, label_of(upload), task, values)
        except Exception as error:
            raise api_error(error) from error

    @app.get("/v1/jobs", responses=errors)
    async def listed() -> dict[str, Any]:
        """List the jobs, the latest first."""
        return {"object": "list", "data": await asyncio.to_thread(jobs.all)}

    @app.get("/v1/jobs/{job}", responses=errors)
    async def described(job: str) -> dict[str, Any]:
        """Tell how far a job is."""
        return await asyncio.to_thread(jobs.get, job)

    @app.get("/v1/jobs/{job}/result", responses=errors, response_class=Response)
    async def result(job: str) -> Response:
        """Return the transcript, in the `response_format` of the job."""
        text, kind = await asyncio.to_thread(jobs.result, job)
        return Response(text, media_type=kind)

    @app.delete("/v1/jobs/{job}", responses=errors)
    async def deleted(job: str) -> dict[str, Any]:
        """Cancel a job, or remove its result."""
        await asyncio.to_thread(jobs.delete, job)
        return {"id": job, "object": "job", "deleted": True}


async def work_on_jobs(work: Work, jobs: Jobs) -> None:
    """Work on the jobs until cancelled."""
    while True:
        try:
            if await _work_on_next(work, jobs):
                continue
        except (sqlite3.Error, OSError) as error:  # a disk that is full, or a database in use elsewhere
            _log.error("The jobs cannot be worked on: %s.", error)
            await asyncio.sleep(_PAUSE_S)
        await asyncio.sleep(0.3)


async def _work_on_next(work: Work, jobs: Jobs) -> bool:
    """Work on the oldest job that waits, and return whether there was one."""
    await asyncio.to_thread(jobs.remove_old)
    job = await asyncio.to_thread(jobs.next)
    if job is None:
        return False
    try:
        await _work_on(work, jobs, job["id"], job["task"], job["fields"], job["name"])
    except CancelledRequestError:
        _log.info("%s is cancelled.", job["id"])
    except Exception as error:
        await asyncio.to_thread(jobs.fail, job["id"], api_error(error).body()["error"])
    return True


async def _work_on(work: Work, jobs: Jobs, number: str, task: str, given: str, name: str) -> None:
    fields = _KINDS[task].model_validate(json.loads(given))
    progress = Request()
    with open(jobs.upload(number), "rb") as upload:
        samples = await work.decode(progress, upload, name)
    try:
        async for part in work.transcribe(progress, samples, fields):
            if isinstance(part, Whole):
                body = answer(part.transcript, fields, task, part.logprobs)
                await asyncio.to_thread(jobs.complete, number, body, MEDIA_TYPES[fields.response_format])
            elif not await asyncio.to_thread(
                jobs.set_progress, number, round(min(part.segment.end / samples.seconds, 0.99), 3)
            ):
                raise CancelledRequestError
    finally:
        progress.cancel()
        with suppress(OSError):
            samples.close()
