"""Transcripts as answers, in the forms of OpenAI's audio API."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dragoman.server.forms import Fields
from dragoman.text.languages import LANGUAGES
from dragoman.transcriber.layout import Layout
from dragoman.transcriber.result import Segment, Transcript, join_texts
from dragoman.transcriber.segmenting import Examined
from dragoman.transcriber.writers import render

MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


def answer(transcript: Transcript, fields: Fields, task: str, logprobs: list[dict[str, Any]]) -> str:
    """Return the body of the answer."""
    match fields.response_format:
        case "text":
            return f"{transcript.text}\n"
        case "srt" | "vtt":
            return render(transcript, fields.response_format, Layout())
        case "verbose_json":
            return _json(verbose(transcript, fields, task))
        case _:
            logs = {"logprobs": logprobs} if fields.include else {}
            return _json({"text": transcript.text, **logs, "usage": _usage(transcript)})


def verbose(transcript: Transcript, fields: Fields, task: str) -> dict[str, Any]:
    """Return the values of `verbose_json`; without granularities it has segments."""
    values: dict[str, Any] = {
        "task": task,
        "language": LANGUAGES.get(transcript.language or "", transcript.language or "unknown"),
        "duration": transcript.duration,
        "text": transcript.text,
    }
    if not fields.timestamp_granularities or "segment" in fields.timestamp_granularities:
        values["segments"] = [segment_values(segment) for segment in transcript.segments]
    if fields.gives_words:
        values["words"] = word_values(transcript.segments)
    return {**values, "usage": _usage(transcript)}


def segment_values(segment: Segment) -> dict[str, Any]:
    """Return a segment with the names of OpenAI; words are listed apart."""
    values = segment.to_dict()
    names = ("id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio")
    chosen = {name: values[name] for name in names}
    chosen["avg_logprob"] = 0.0 if values["avg_logprob"] is None else values["avg_logprob"]
    return {**chosen, "no_speech_prob": values["no_speech_prob"] or 0.0}


def word_values(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """Return words with their times; `probability` is dragoman's own."""
    return [
        {"word": word.word.strip(), "start": word.start, "end": word.end, "probability": word.probability}
        for segment in segments
        for word in segment.words
    ]


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": transcript.duration}


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def token_logprobs(window: Examined, text_of: Callable[[Sequence[int]], str]) -> dict[int, list[dict[str, Any]]]:
    """Return the tokens of each segment of a window with their log-probabilities, by the number of the segment.

    The tokens of a window joined are its text. A token that ends within a character has an empty text, and the one that
    completes the character has all of it.
    """
    ids = [token for segment in window.segments for token in segment.tokens]
    entries, before = [], ""
    for count, log_prob in zip(range(1, len(ids) + 1), window.log_probs, strict=False):
        text = text_of(ids[:count])
        if not text.startswith(before) or (text.endswith("\ufffd") and count < len(ids)):
            text = before
        token, before = text[len(before) :], text
        entries.append({"token": token, "bytes": list(token.encode()), "logprob": log_prob})
    found, first = {}, 0
    for segment in window.segments:
        found[segment.id] = entries[first : first + len(segment.tokens)]
        first += len(segment.tokens)
    return found


class Events:
    """Server-sent events of a transcript, segment by segment; the deltas joined are the final text.

    Args:
        fields: The request.
        task: As of `verbose`.
        seconds: Duration of the recording.
    """

    def __init__(self, fields: Fields, task: str, seconds: float) -> None:
        self._fields, self._task, self._seconds = fields, task, seconds
        self._text = ""

    def segment(self, segment: Segment, logprobs: list[dict[str, Any]]) -> Iterator[str]:
        """Yield the events of a segment."""
        text = join_texts((self._text, segment.text))
        delta, self._text = text[len(self._text) :], text
        logs = {"logprobs": logprobs} if self._fields.include else {}
        if delta:
            yield event({"type": "transcript.text.delta", "delta": delta, **logs})
        if self._fields.response_format == "verbose_json":
            words = {"words": word_values([segment])} if self._fields.gives_words else {}
            position = {"duration": self._seconds}
            values = segment_values(segment)
            yield event({"type": "transcript.text.segment", **values, "id": str(segment.id), **words, **position})

    def done(self, transcript: Transcript, logprobs: list[dict[str, Any]]) -> str:
        """Return the last event."""
        values: dict[str, Any] = {"type": "transcript.text.done", "text": transcript.text}
        if self._fields.include:
            values["logprobs"] = logprobs
        if self._fields.response_format == "verbose_json":
            values |= verbose(transcript, self._fields, self._task)
        return event({**values, "usage": _usage(transcript)})


def event(values: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {_json(values)}\n\n"
