"""`dragoman data check`: what is wrong with a data set, before any training."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal

from typer import Argument

from dragoman._lazy import require
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.cli.reading import DataFlags
from dragoman.transcriber.fields import option

_data = partial(option, group="Data")
_SOURCE = ("model_dir", "revision", "local_files_only", "hf_token")
_LISTED = 20
_WIDTH = 40  # of the longest bar


@dataclass(frozen=True, kw_only=True)
class CheckFlags:
    """What is checked, and how it is told."""

    headers_only: bool = _data(False, "Do not decode the audio: quick, but damage is not found.")
    max_items: int = _data(_LISTED, "Number of problems of each kind that are listed; `--json` lists all.")
    json: bool = _data(False, "Print one JSON object.")
    model: str | None = _data(
        None, "Model folder, hub id or name of `whisper` whose tokenizer and decoder must fit the texts."
    )


@with_flags
def data(
    action: Annotated[Literal["check"], Argument(help="What to do: check.")],
    manifests: Annotated[list[str], Argument(help="Manifests or folders; of several, the overlap is counted too.")],
    *,
    reading: DataFlags,
    checks: CheckFlags,
    model: Annotated[ModelFlags, _SOURCE],
    messages: MessageFlags,
) -> int:
    """Check data sets: durations, rates, missing and broken files, repeated and contradictory texts, overlap.

    With --model, texts are also checked against its tokenizer and decoder. The exit code is 1 if an item is
    unusable.
    """
    from dragoman.cli.progress import progress_bar  # only now: `--help` needs no NumPy

    del action
    checking, manifest = require("dragoman.data.checking", "Checking"), require("dragoman.data.manifest", "Checking")
    fits = _model_checks(checks.model, model.source()) if checks.model is not None else None
    found = []
    for path in manifests:
        scanned = manifest.scan_manifest(path, **reading.read())
        with progress_bar(str(path), len(scanned), not messages.json_logs and not checks.json, unit="items") as bar:
            checked = checking.check_manifest(scanned, decode=not checks.headers_only, advance=bar.update)
        facts = checked.to_dict() | (fits(checked) if fits else {})
        facts["histogram"] = checking.histogram(checked.quantities()["seconds"]) if checked.utterances else []
        found.append((checked, facts))
    overlap = checking.overlaps({facts["path"]: checked.utterances for checked, facts in found})
    if checks.json:
        print(json.dumps({"sets": [facts for _, facts in found], "overlap": overlap}, ensure_ascii=False, indent=1))  # noqa: T201
    else:
        for line in [*(line for _, facts in found for line in _lines(facts, checks.max_items)), *_overlap(overlap)]:
            print(line)  # noqa: T201
    sys.stdout.flush()
    return 1 if any(facts["problems"] for _, facts in found) else 0


def _model_checks(name: str, source: dict[str, Any]) -> Any:
    """Return a function that checks the texts of a data set against a model, without loading its weights."""
    folder = require("dragoman.transcriber.loading", "--model").checkpoint_folder(name, source)
    processor = require("dragoman.processing", "--model").AutoProcessor.from_pretrained(folder)
    facts = require("dragoman.checkpoint.folder", "--model").read_model_config(folder)
    config = require("dragoman.model.configs", "--model").whole_config(facts, name, {})
    tokens = require("dragoman.data.tokens", "--model")
    limit = config.decoder.text_spec().num_positions

    def check(checked: Any) -> dict[str, Any]:
        characters = tokens.unwritable(checked.utterances, processor.tokenizer)
        checked.problems += tokens.too_long(checked.utterances, processor.tokenizer, limit)
        facts: dict[str, Any] = checked.to_dict()
        return facts | {"max_tokens": limit, "unwritable": [asdict(one) for one in characters]}

    return check


def _lines(facts: dict[str, Any], most: int) -> Iterator[str]:
    """Yield the table, the histogram and the problems of a data set."""
    yield f"{facts['path']} ({facts['format']})"
    hours = facts["seconds"] / 3600
    yield f"  {facts['usable']} of {facts['items']} items are usable: {hours:.2f} hours, {facts['speakers']} speakers"
    if facts["languages"]:
        yield f"  languages: {', '.join(facts['languages'])}"
    names = ("min", "p5", "median", "mean", "p95", "max")
    yield f"\n  {'':<24}" + "".join(f"{name:>9}" for name in names)
    for name, values in facts["quantities"].items():
        yield f"  {name.replace('_', ' '):<24}" + "".join(f"{values[one]:>9.2f}" for one in names)
    if facts["histogram"]:
        yield "\n  seconds"
    highest = max((count for *_, count in facts["histogram"]), default=1)
    for first, last, count in facts["histogram"]:
        yield f"  {first:>7.2f} - {last:<7.2f} {_bar(count, highest):<{_WIDTH}} {count}"
    yield from _listed("Unusable items", facts["problems"], facts["problem_counts"], most)
    yield from _listed("Suspicious items", facts["notes"], facts["note_counts"], most)
    if facts.get("unwritable"):
        yield "\n  Characters that the tokenizer cannot write"
        for one in facts["unwritable"][:most]:
            becomes = f"becomes {one['written']!r}" if one["written"] else "is lost"
            name = f"{one['character']!r} (U+{ord(one['character']):04X})"
            yield f"    {name} {becomes}: {one['count']} times, first in {one['source']}"
    yield ""


def _bar(count: int, highest: int) -> str:
    """Return the bar of a count; anything but 0 has one."""
    return "█" * -(-count * _WIDTH // highest)


def _listed(title: str, items: Sequence[dict[str, str]], counts: dict[str, int], most: int) -> Iterator[str]:
    if items:
        yield f"\n  {title}"
    for kind, count in counts.items():
        yield f"    {kind}: {count}"
        for item in [one for one in items if one["kind"] == kind][:most]:
            yield f"      {item['source']}: {item['message']}"
        if count > most:
            yield f"      … and {count - most} more"


def _overlap(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield f"{row['first']} and {row['second']} share"
        for what in ("texts", "recordings", "speakers"):
            example = f", such as {row[what]['example']!r:.60}" if row[what]["count"] else ""
            yield f"  {row[what]['count']} {what}{example}"
