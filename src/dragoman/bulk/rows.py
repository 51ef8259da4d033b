"""The row of an item in the output, and the files of rows: JSONL or Parquet."""

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from dragoman._lazy import require
from dragoman.bulk.items import Item
from dragoman.bulk.settings import Format, Work
from dragoman.transcriber.result import ModelInfo, Transcript

Row = dict[str, Any]


def row_of(item: Item, work: Work, model: ModelInfo | None = None) -> Row:
    """Return the row of an item without a result.

    The columns: `id`; `path` and `offset` (seconds); `hash`, SHA-256 of the file; `text`, `language`, `segments` and
    `words` as in the transcripts of `dragoman transcribe`; `model`; `options`, those that differ from the defaults;
    `duration` of the audio and `seconds` of work that it took; `error`, why there is no text.
    """
    return {
        "id": item.id,
        "path": item.path,
        "offset": item.offset,
        "hash": None,
        "text": None,
        "language": None,
        "segments": [],
        "words": [],
        "model": {
            "name": work.model if model is None else model.name,
            "commit": None if model is None else model.commit,
        },
        "options": work.changed_options,
        "duration": item.duration,
        "seconds": 0.0,
        "error": item.problem,
    }


def with_transcript(row: Row, digest: str, transcript: Transcript) -> Row:
    """Return a row with its result; the words of segments are a column of their own."""
    plain = transcript.to_dict()
    words = [word for segment in plain["segments"] for word in segment.pop("words", [])]
    return {
        **row,
        "hash": digest,
        "text": plain["text"],
        "language": plain["language"],
        "segments": plain["segments"],
        "words": words,
        "duration": plain["duration"],
        "seconds": 0.0 if transcript.timings is None else round(transcript.timings.total, 3),
    }


def encoded(rows: Sequence[Row], form: Format) -> bytes:
    """Return the content of a file with these rows."""
    if form == "jsonl":
        return "".join(_line(row) for row in rows).encode(errors="surrogateescape")
    arrow, parquet = require("pyarrow", "Writing Parquet"), require("pyarrow.parquet", "Writing Parquet")
    file = io.BytesIO()
    flat = [{**row, "options": json.dumps(row["options"], ensure_ascii=False)} for row in rows]
    parquet.write_table(arrow.Table.from_pylist(flat, schema=_schema(arrow)), file, compression="zstd")
    return file.getvalue()


def decoded(content: bytes, form: Format) -> list[Row]:
    """Return the rows of a file."""
    if form == "jsonl":
        return list(lines_of(content))
    parquet = require("pyarrow.parquet", "Reading Parquet")
    rows: list[Row] = parquet.read_table(io.BytesIO(content)).to_pylist()
    return [{**row, "options": json.loads(row["options"])} for row in rows]


def lines_of(content: bytes) -> Iterable[dict[str, Any]]:
    """Yield the objects of a JSONL file, but not of a last line that was cut off."""
    whole = content[: content.rfind(b"\n") + 1]
    for line in whole.split(b"\n"):
        if line:
            yield json.loads(line.decode(errors="surrogateescape"))


def line_of(values: dict[str, Any]) -> bytes:
    """Return an object as a line."""
    return _line(values).encode(errors="surrogateescape")


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def _schema(arrow: Any) -> Any:
    text, number, real = arrow.string(), arrow.int64(), arrow.float64()
    tokens = arrow.list_(arrow.int32())
    word = arrow.struct({"word": text, "start": real, "end": real, "probability": real})
    alternative = arrow.struct({"text": text, "tokens": tokens, "avg_logprob": real, "confidence": real})
    segment = arrow.struct({
        "id": number, "seek": number, "start": real, "end": real, "text": text, "tokens": tokens, "temperature": real,
        "avg_logprob": real, "compression_ratio": real, "no_speech_prob": real, "truncated": arrow.bool_(),
        "confidence": real, "alternatives": arrow.list_(alternative),
    })  # fmt: skip
    return arrow.schema({
        "id": text, "path": text, "offset": real, "hash": text, "text": text, "language": text,
        "segments": arrow.list_(segment), "words": arrow.list_(word),
        "model": arrow.struct({"name": text, "commit": text}), "options": text, "duration": real, "seconds": real,
        "error": text,
    })  # fmt: skip
