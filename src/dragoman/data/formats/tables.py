"""JSONL, CSV, TSV (compressed or not), Parquet. NeMo's manifests are JSONL, those of Common Voice and fairseq TSV."""

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dragoman.data.formats.lines import Row, read_lines
from dragoman.data.formats.parquet import ENDING, read_parquet
from dragoman.data.utterance import Problem
from dragoman.errors import DataError

ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ENDING: "parquet",
}
_LONGEST = 1 << 20  # characters of a cell


def table_kind(path: Path) -> str | None:
    """Return the kind of a file by its name, a `.gz` at its end apart; `None` if it is no table."""
    name = path.name.lower().removesuffix(".gz")
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)


def read_table(path: Path, kind: str) -> Iterator[Row | Problem]:
    """Yield the items of a table, and its lines that are none."""
    if kind == "jsonl":
        yield from read_json_lines(path)
    elif kind == "parquet":
        yield from read_parquet(path)
    else:
        yield from _read_cells(path, kind)


def read_json_lines(path: Path) -> Iterator[Row | Problem]:
    """Yield the objects of a file, one a line; a file with one JSON list is read too."""
    lines = list(read_lines(path))
    first = next((line[1] for line in lines if not isinstance(line, Problem) and line[1].strip()), "")
    if first.lstrip().startswith("["):
        yield from _read_list(path, lines)
        return
    for line in lines:
        if isinstance(line, Problem):
            yield line
        elif line[1].strip():
            source = f"{path}:{line[0]}"
            try:
                value = json.loads(line[1])
            except (ValueError, RecursionError) as error:
                yield Problem(kind="malformed line", source=source, message=f"is not JSON ({str(error)[:80]}).")
                continue
            yield _object(value, source)


def _read_list(path: Path, lines: list[tuple[int, str] | Problem]) -> Iterator[Row | Problem]:
    bad = next((line for line in lines if isinstance(line, Problem)), None)
    if bad is not None:
        raise DataError(str(bad))
    text = "\n".join(line[1] for line in lines if not isinstance(line, Problem))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not a JSON list ({str(error)[:80]}), nor one JSON object a line.") from error
    for number, value in enumerate(values, 1):
        yield _object(value, f"{path}: item {number}")


def _object(value: Any, source: str) -> Row | Problem:
    if isinstance(value, dict):
        return Row(values=value, source=source)
    kind = type(value).__name__
    return Problem(kind="malformed line", source=source, message=f"must hold a JSON object, but holds a {kind}.")


class _Numbered(Iterator[str]):
    """The lines for the CSV reader, with the number of the last one; bad ones are set aside."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self.number = 0
        self.problems: list[Problem] = []

    def __next__(self) -> str:
        for line in self._lines:
            if isinstance(line, Problem):
                self.problems.append(line)
                continue
            self.number = line[0]
            return line[1] + "\n"
        raise StopIteration


def _read_cells(path: Path, kind: str) -> Iterator[Row | Problem]:
    lines = _Numbered(path)
    header_line = next((line for line in lines if line.strip()), "")
    if kind == "tsv":  # the texts of Common Voice and CoVoST have quotation marks that quote nothing
        form = partial(csv.reader, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        delimiter = max(",;\t|", key=header_line.count)
        form = partial(csv.reader, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL, strict=True)
    csv.field_size_limit(_LONGEST)
    if lines.problems:
        raise DataError(f"{lines.problems[0]} It is the line with the names of the columns, or comes before it.")
    try:
        header = [name.strip() for name in next(form([header_line]), [])]
    except csv.Error as error:
        raise DataError(
            f"{path}:1: the names of the columns cannot be split ({error}). Close its quotation marks."
        ) from error
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}:1: has the column {twice!r} twice. Rename one.")
    reader = form(lines)
    while True:
        first = lines.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Problem(
                kind="malformed line",
                source=f"{path}:{first}",
                message=(
                    f"cannot be split into cells ({error}){_lost(first, lines.number)}. A quotation mark may be open, "
                    "or stand in a cell without being doubled."
                ),
            )
            continue
        yield from lines.problems
        lines.problems.clear()
        if cells is None:
            return
        if cells and (len(cells) > 1 or cells[0].strip()):
            yield _cells(header, cells, f"{path}:{first}")


def _lost(first: int, last: int) -> str:
    return f", so that lines {first} to {last} are lost" if last > first else ""


def _cells(header: list[str], cells: list[str], source: str) -> Row | Problem:
    if len(cells) == len(header):
        return Row(values=dict(zip(header, cells, strict=True)), source=source)
    return Problem(
        kind="malformed line",
        source=source,
        message=f"has {len(cells)} cells, but the header has {len(header)}: {cells!r:.80}.",
    )
