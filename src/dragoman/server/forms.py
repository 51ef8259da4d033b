"""The fields of a request for a transcript, checked, and how its body is read within limits."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from dragoman.server.errors import ApiError
from dragoman.transcriber.options import TranscribeOptions

_MAX_FIELDS, _MAX_FIELD_BYTES = 100, 1 << 16
_SPEAKERS = ("known_speaker_names", "known_speaker_references")  # of OpenAI's diarisation

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
_Fields = TypeVar("_Fields", bound="Fields")
Short = Annotated[str, StringConstraints(max_length=200)]


class Chunking(BaseModel):
    """How voice activity detection splits a recording."""

    type: Literal["auto", "server_vad"]
    threshold: float = Field(0.5, ge=0, le=1)
    silence_duration_ms: int = Field(160, ge=0, le=60_000)
    prefix_padding_ms: int = Field(200, ge=0, le=60_000)

    def options(self) -> dict[str, Any]:
        """Return the options of a transcription."""
        return {
            "vad_filter": True,
            "vad_threshold": self.threshold,
            "vad_min_silence_duration_ms": self.silence_duration_ms,
            "vad_speech_pad_ms": self.prefix_padding_ms,
        }


def _chunking(given: Any) -> Any:
    """Return what `Chunking` is made of; in a form it is a word, or JSON."""
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            return json.loads(given)
        except RecursionError:
            raise ValueError("too many brackets") from None
    return {"type": given} if isinstance(given, str) else given


_CHUNKING_SCHEMA = {"anyOf": [{"const": "auto"}, {"type": "object", "required": ["type"]}]}


class Fields(BaseModel):
    """The fields that transcriptions and translations share."""

    model_config = ConfigDict(populate_by_name=True, extra="ignore")

    model: Short = Field("", description="Name of a model (`GET /v1/models`); empty for the first.")
    prompt: Annotated[str, StringConstraints(max_length=20_000)] = Field(
        "", description="Text to prompt the decoder with, for models that take one (Whisper)."
    )
    response_format: Format = Field("json", description="Form of the answer.")
    temperature: float = Field(
        0.0, ge=0, le=1, description="Sampling temperature; 0 searches, and samples only what fails a guard."
    )
    stream: bool = Field(False, description="Answer with server-sent events (`json`, `text` and `verbose_json`).")
    beam_size: int = Field(5, ge=1, le=20, description="Number of beams; dragoman's own field.")
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default_factory=list, alias="timestamp_granularities[]", description="What has times; for `verbose_json`."
    )
    include: list[Literal["logprobs"]] = Field(
        default_factory=list, alias="include[]", description="`logprobs` for those of the tokens; for `json`."
    )

    @property
    def gives_words(self) -> bool:
        """Whether words with times were asked for."""
        return "word" in self.timestamp_granularities

    def check(self) -> None:
        """Raise an `ApiError` if fields contradict each other."""
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise ApiError(
                400,
                f"`timestamp_granularities` needs `response_format` verbose_json, but it is {self.response_format}.",
                param="timestamp_granularities",
                code="invalid_value",
            )
        if self.include and self.response_format != "json":
            raise ApiError(
                400,
                f"`include` needs `response_format` json, but it is {self.response_format}.",
                param="include",
                code="invalid_value",
            )
        if self.stream and self.response_format in ("srt", "vtt"):
            raise ApiError(
                400,
                f"`stream` needs `response_format` json, text or verbose_json, but it is {self.response_format}.",
                param="stream",
                code="invalid_value",
            )

    def options(self, *, aligns: bool) -> TranscribeOptions:
        """Return the options of a transcription.

        Args:
            aligns: Whether the model gives word timestamps, with which subtitles end with words.
        """
        subtitles = self.response_format in ("srt", "vtt")
        sampled: dict[str, Any] = {"temperature": self.temperature} if self.temperature else {}
        return TranscribeOptions(
            beam_size=self.beam_size,
            initial_prompt=self.prompt or None,
            word_timestamps=self.gives_words or (subtitles and aligns),
            **sampled,
            **self._own_options(),
        )

    def _own_options(self) -> dict[str, Any]:
        return {}


class TranscriptionFields(Fields):
    """The fields of a transcription."""

    language: Short = Field("", description="Spoken language, for models that take one: `en`.")
    target_language: Short = Field("", description="Output language, for models with several; dragoman's own field.")
    keywords: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field(
        default_factory=list, alias="keywords[]", max_length=100, description="Hot words: phrases to favour."
    )
    languages: list[Short] = Field(
        default_factory=list, alias="languages[]", description="Possible languages; one is taken as `language`."
    )
    chunking_strategy: Annotated[Chunking | None, BeforeValidator(_chunking), WithJsonSchema(_CHUNKING_SCHEMA)] = Field(
        None, description="Leave out what is no speech: `auto`, or `server_vad` with its values."
    )

    def _own_options(self) -> dict[str, Any]:
        only = self.languages[0] if len(self.languages) == 1 else None
        return {
            "language": self.language or only,
            "target_language": self.target_language or None,
            "hotwords": tuple(self.keywords) or None,
            **(self.chunking_strategy.options() if self.chunking_strategy else {}),
        }


class TranslationFields(Fields):
    """The fields of a translation to English."""

    def _own_options(self) -> dict[str, Any]:
        return {"task": "translate"}


def body_schema(fields: type[Fields]) -> dict[str, Any]:
    """Return the description of a request's body for the OpenAPI document."""
    schema = fields.model_json_schema(by_alias=True)
    file = {"type": "string", "format": "binary", "description": "The recording, in any usual audio format."}
    schema["properties"] = {"file": file, **schema["properties"]}
    schema["required"] = ["file"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def read_form(request: Request, seconds: float) -> AsyncIterator[FormData]:
    """Read the multipart body of a request; its files vanish afterwards.

    Raises:
        ApiError: If it is none, or has not arrived in time.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, f"The body must be multipart/form-data, but is {kind[:100]!r}.", code="invalid_body")
    try:
        async with asyncio.timeout(seconds):
            form = await request.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    except TimeoutError:
        raise ApiError(408, f"The request must arrive in {seconds:g} s.", code="timeout") from None
    except HTTPException as error:
        raise ApiError(400, f"The body is not valid: {error.detail}", code="invalid_body") from error
    try:
        yield form
    finally:
        await form.close()


def upload_of(form: FormData) -> UploadFile:
    """Return the file of a form.

    Raises:
        ApiError: If there is none; a path or an address is none either.
    """
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(
            400, "`file` must be an audio file, uploaded with the request.", code="missing_file", param="file"
        )
    if not file.size:
        raise ApiError(400, "`file` is empty (0 bytes).", code="invalid_audio", param="file")
    return file


def label_of(upload: UploadFile) -> str:
    """Return what to call an upload in messages: its name, on one line."""
    clean = "".join(sign for sign in upload.filename or "" if sign.isprintable())
    return clean.strip()[-100:] or "the upload"


def fields_of(kind: type[_Fields], form: FormData) -> _Fields:
    """Return the checked fields of a form.

    Raises:
        ApiError: If one is invalid.
    """
    values: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        names = [one for one in (info.alias, name) if one]
        given = [value for one in names for value in form.getlist(one) if isinstance(value, str)]
        # The official client sends the values of an object as `name[key]`.
        parts = {
            key[len(name) + 1 : -1]: value
            for key, value in form.items()
            if key.startswith(f"{name}[") and key[-2:] != "[]"
        }
        if given or parts:
            values[name] = parts or (given if info.alias else given[-1])
    for name in _SPEAKERS:
        if name in form or f"{name}[]" in form:
            raise ApiError(
                400, f"`{name}`: speakers are not told apart. Leave it out.", code="invalid_value", param=name
            )
    try:
        fields = kind.model_validate(values)
    except ValidationError as error:
        raise invalid_field(error.errors()) from error
    fields.check()
    return fields


def invalid_field(problems: Sequence[Any]) -> ApiError:
    """Return the error for the first invalid field."""
    first = problems[0]
    name = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    came = str(first.get("input"))[:100]
    return ApiError(400, f"`{name}`: {first['msg']}, but is {came!r}.", code="invalid_value", param=name or None)
