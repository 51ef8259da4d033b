"""Live audio over a WebSocket, with the transcription events of OpenAI's Realtime API as far as they fit.

A client sends 16-bit mono samples (`input_audio_buffer.append` in base64, or binary frames). It gets words as soon as
they are agreed on (`…transcription.delta`), hypotheses that may still change (`dragoman.partial`), and the transcript
of each stretch of speech (`…transcription.completed`). `input_audio_buffer.commit` ends the current stretch.
"""

import asyncio
import base64
import json
import queue
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from typing import Any

import numpy as np
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from dragoman.audio.waveform import MAX_RATE, MIN_RATE
from dragoman.server.batching import Request
from dragoman.server.errors import ApiError, api_error
from dragoman.server.formats import segment_values, word_values
from dragoman.server.work import Work
from dragoman.transcriber.live import LiveText, live_texts
from dragoman.transcriber.options import TranscribeOptions

_KIND = "conversation.item.input_audio_transcription"
_IDLE_SECONDS = 60.0
_MAX_WAITING = 600  # messages of audio that wait for the model; then the client has to wait


class LiveSession:
    """One connection.

    Args:
        work: What all requests share.
        socket: The connection, accepted.
    """

    def __init__(self, work: Work, socket: WebSocket) -> None:
        self._work, self._socket = work, socket
        self._model = work.models.names[0]
        self._language, self._prompt, self._rate = "", "", 24_000
        self._samples = 0
        self._chunks: queue.Queue[bytes | None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._request = Request()

    async def run(self) -> None:
        """Answer messages until the client leaves."""
        await self._send("session.created", session=self._described())
        try:
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                try:
                    await self._handle(message)
                except ApiError as error:
                    await self._send("error", **error.body())
        except (TimeoutError, WebSocketDisconnect):
            with suppress(RuntimeError):
                await self._socket.close(1000, "no audio")
        finally:
            self._request.cancel()
            if self._chunks is not None:
                with suppress(queue.Full):
                    self._chunks.put_nowait(None)
            if self._running is not None:
                self._running.cancel()

    async def _handle(self, message: MutableMapping[str, Any]) -> None:
        if message.get("bytes") is not None:
            await self._append(message["bytes"])
            return
        try:
            event = json.loads(message.get("text") or "")
            kind = event["type"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ApiError(400, "A message must be a JSON object with `type`.", code="invalid_event") from None
        match kind:
            case "session.update" | "transcription_session.update":
                self._update(event.get("session"))
                await self._send("session.updated", session=self._described())
            case "input_audio_buffer.append":
                try:
                    audio = base64.b64decode(event.get("audio", ""), validate=True)
                except (ValueError, TypeError):
                    raise ApiError(400, "`audio` must be base64.", code="invalid_value", param="audio") from None
                await self._append(audio)
            case "input_audio_buffer.commit":
                await self._finish()
            case "input_audio_buffer.clear":
                await self._clear()
            case _:
                raise ApiError(400, f"The event {str(kind)[:100]!r} is not known.", code="invalid_event", param="type")

    def _described(self) -> dict[str, Any]:
        return {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": self._rate},
                    "transcription": {"model": self._model, "language": self._language, "prompt": self._prompt},
                }
            },
        }

    def _update(self, session: Any) -> None:
        if self._running is not None:
            raise ApiError(400, "Commit the audio before the session is changed.", code="invalid_event")
        try:
            given = (session.get("audio") or {}).get("input") or {}
            rate = (given.get("format") or {}).get("rate", self._rate)
            chosen = given.get("transcription") or {}
            model, language, prompt = (chosen.get(name) or "" for name in ("model", "language", "prompt"))
        except AttributeError:
            raise ApiError(400, "`session` must be an object of objects.", code="invalid_value") from None
        if not isinstance(rate, int) or not MIN_RATE <= rate <= MAX_RATE:
            raise ApiError(400, f"`rate` must be from {MIN_RATE} to {MAX_RATE}.", code="invalid_value", param="rate")
        if not all(isinstance(one, str) and len(one) < 20_000 for one in (model, language, prompt)):
            raise ApiError(400, "`model`, `language` and `prompt` must be strings.", code="invalid_value")
        self._model = self._work.models.check(model)
        self._language, self._prompt, self._rate = language, prompt, rate

    async def _append(self, audio: bytes) -> None:
        if len(audio) % 2:
            raise ApiError(400, "Samples must be 16-bit: two bytes each.", code="invalid_audio")
        self._samples += len(audio) // 2
        if self._samples > self._work.settings.max_seconds * self._rate:
            raise ApiError(413, "The session is longer than the limit. Begin another.", code="audio_too_long")
        if self._chunks is None:
            self._start()
        assert self._chunks is not None
        while True:
            with suppress(queue.Full):
                self._chunks.put_nowait(audio)
                return
            await asyncio.sleep(0.05)  # the client has to wait, too

    def _start(self) -> None:
        chunks: queue.Queue[bytes | None] = queue.Queue(_MAX_WAITING)
        self._chunks, self._request = chunks, Request()
        self._running = asyncio.create_task(self._transcribe(chunks, self._request))

    async def _finish(self) -> None:
        """Wait for the transcript of all audio so far."""
        chunks, running = self._chunks, self._running
        self._chunks = self._running = None
        if chunks is None or running is None:
            raise ApiError(400, "There is no audio to commit.", code="input_audio_buffer_commit_empty")
        await asyncio.to_thread(chunks.put, None)
        await running
        self._samples = 0
        await self._send("input_audio_buffer.committed")

    async def _clear(self) -> None:
        self._request.cancel()
        if self._chunks is not None:
            self._chunks.put_nowait(None)
        if self._running is not None:
            self._running.cancel()
        self._chunks = self._running = None
        await self._send("input_audio_buffer.cleared")

    async def _transcribe(self, chunks: "queue.Queue[bytes | None]", request: Request) -> None:
        loop, texts = asyncio.get_running_loop(), asyncio.Queue[LiveText | None]()

        def emit(text: LiveText | None) -> None:
            loop.call_soon_threadsafe(texts.put_nowait, text)

        working = asyncio.create_task(self._work.run(request, lambda: self._work_live(chunks, request, emit)))
        item, sent = f"item_{uuid.uuid4().hex[:16]}", ""
        try:
            while (text := await texts.get()) is not None:
                if text.is_final:
                    await self._completed(item, text)
                    item, sent = f"item_{uuid.uuid4().hex[:16]}", ""
                    continue
                if text.text.startswith(sent) and text.text != sent:
                    await self._send(f"{_KIND}.delta", item_id=item, content_index=0, delta=text.text[len(sent) :])
                    sent = text.text
                times = {"start": text.start, "end": text.end}
                await self._send("dragoman.partial", item_id=item, text=text.text, tentative=text.tentative, **times)
            await working
        except Exception as error:
            problem = api_error(error).body()
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._send(f"{_KIND}.failed", item_id=item, content_index=0, **problem)
        finally:
            request.cancel()

    async def _completed(self, item: str, text: LiveText) -> None:
        await self._send(
            f"{_KIND}.completed",
            item_id=item,
            content_index=0,
            transcript=text.text,
            usage={"type": "duration", "seconds": round(text.end - text.start, 3)},
            segments=[{**segment_values(one), "words": word_values([one])} for one in text.segments],
        )

    def _work_live(
        self, chunks: "queue.Queue[bytes | None]", request: Request, emit: Callable[[LiveText | None], None]
    ) -> None:
        try:
            with self._work.models.use(self._model) as engine:
                options = TranscribeOptions(
                    language=self._language or None,
                    initial_prompt=self._prompt or None,
                    word_timestamps=engine.facts.has_cross_attention,
                )
                for text in live_texts(engine, _blocks(chunks, request), options, 1.0, self._rate):
                    request.check()
                    emit(text)
        finally:
            emit(None)

    async def _send(self, kind: str, **values: Any) -> None:
        event = {"type": kind, "event_id": f"event_{uuid.uuid4().hex[:16]}", **values}
        await self._socket.send_text(json.dumps(event, ensure_ascii=False))


def _blocks(chunks: "queue.Queue[bytes | None]", request: Request) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the samples of the messages until the end, or until nobody waits any more."""
    while True:
        request.check()
        try:
            data = chunks.get(timeout=0.5)
        except queue.Empty:
            continue
        if data is None:
            return
        yield np.frombuffer(data, dtype="<i2")
