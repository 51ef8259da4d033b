"""Lhotse's cuts as JSONL: the facts are read without the library. Cuts that are mixed or padded need its exports."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dragoman.data.formats.lines import Row
from dragoman.data.formats.tables import read_json_lines
from dragoman.data.utterance import Problem


def is_cut(values: Mapping[str, Any]) -> bool:
    """Return whether an object of a JSONL file is a cut."""
    return str(values.get("type", "")).endswith("Cut") or ("supervisions" in values and "start" in values)


def holds_cuts(path: Path) -> bool:
    """Return whether the first item of a JSONL file is a cut."""
    first = next((item for item in read_json_lines(path) if isinstance(item, Row)), None)
    return first is not None and is_cut(first.values)


def read_cuts(path: Path) -> Iterator[Row | Problem]:
    """Yield the supervisions of each cut as items."""
    for item in read_json_lines(path):
        if isinstance(item, Problem):
            yield item
            continue
        try:
            yield from _supervised(item)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            message = f"is no usable cut ({type(error).__name__}: {error}). Write it again with Lhotse."
            yield Problem(kind="malformed line", source=item.source, message=message)


def _supervised(item: Row) -> Iterator[Row | Problem]:
    cut = item.values
    if cut.get("type", "MonoCut") not in ("MonoCut", "DataCut", "MultiCut"):
        message = f"is a {cut['type']}. Export its audio first: `cuts.save_audios(FOLDER)`."
        yield Problem(kind="unsupported cut", source=item.source, message=message)
        return
    source = cut["recording"]["sources"][0]
    if source["type"] != "file":
        message = f"its audio is of the type {source['type']!r}, not a file. Export it: `cuts.save_audios(FOLDER)`."
        yield Problem(kind="unsupported cut", source=item.source, message=message)
        return
    if not cut.get("supervisions"):
        yield Problem(kind="empty text", source=item.source, message="the cut has no supervision, so no text.")
        return
    whole = cut["start"] == 0 and abs(cut["duration"] - cut["recording"]["duration"]) < 1e-3
    for number, supervision in enumerate(cut["supervisions"]):
        first = max(float(supervision.get("start", 0.0)), 0.0)
        last = min(supervision.get("start", 0.0) + supervision.get("duration", cut["duration"]), cut["duration"])
        only = len(cut["supervisions"]) == 1  # then the cut is what was chosen, with the silence around the speech
        begin, seconds = (0.0, cut["duration"]) if only else (first, last - first)
        yield Row(
            values={
                "id": str(cut["id"]) if only else f"{cut['id']}-{number}",
                "audio": source["source"],
                "text": supervision.get("text"),
                "offset": 0.0 if whole and only else float(cut["start"]) + begin,
                "duration": float(seconds),
                "speaker": supervision.get("speaker"),
                "language": supervision.get("language"),
            },
            source=item.source,
        )
