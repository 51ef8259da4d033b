"""The table of a recipe: the scores of every system with their intervals, and what differs surely."""

import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dragoman.evaluation import compare, measure


@dataclass(frozen=True)
class Row:
    """A system of a table.

    Attributes:
        name: Of its evaluation, `reports/NAME.json`.
        title: What the table calls it.
        run: Its training, if that has another name.
        against: The system that it is compared with.
    """

    name: str
    title: str
    run: str | None = None
    against: str | None = None


def report(folder: Path, rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Write `reports/report.json` and `reports/report.md` from the evaluations that are there; return the latter."""
    found = {row.name: read(folder / f"reports/{row.name}.json") for row in rows}
    systems = {name: one for name, one in found.items() if one is not None}
    content = {
        "machine": machine(),
        "commit": commit(),
        "systems": {row.name: facts(folder, row, systems[row.name], metrics) for row in rows if row.name in systems},
        "comparisons": {
            row.name: {"of": row.against, **difference(systems[row.against], systems[row.name], metrics[0])}
            for row in rows
            if row.against in systems and row.name in systems
        },
    }
    (folder / "reports/report.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    written = table(content, metrics) + "\n"
    (folder / "reports/report.md").write_text(written)
    return written


def read(path: Path) -> dict[str, Any] | None:
    """Return an evaluation, if there is one."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def facts(folder: Path, row: Row, found: dict[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """Return the figures of a system and what its training took."""
    log = folder / f"runs/{row.run or row.name}/log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    steps = [line for line in lines if "loss" in line]
    return {
        "title": row.title,
        "items": found["items"],
        "seconds": found["seconds"],
        "rtfx": found["rtfx"],
        "figures": {metric: found["figures"][metric] for metric in metrics},
        "options": found["options"],
        "steps": len(steps),
        "hours_of_audio": round(sum(line["seconds"] for line in steps) / 3600, 2),
    }


def difference(first: dict[str, Any], second: dict[str, Any], metric: str) -> dict[str, Any]:
    """Return how much the first system's score differs on the items of both, with interval and p-value."""
    texts = [{one["id"]: one for one in found["results"]} for found in (first, second)]
    ids = sorted(texts[0].keys() & texts[1].keys())
    references = [texts[0][one]["reference"] for one in ids]
    measured = [
        measure(metric, references, [by[one]["hypothesis"] for one in ids], normalizer=first["normalizer"])
        for by in texts
    ]
    return vars(compare(*measured))


def table(content: dict[str, Any], metrics: Sequence[str]) -> str:
    """Return the report as Markdown."""
    scores = " | ".join(f"{metric.upper()} (95 %)" for metric in metrics)
    lines = [f"| system | {scores} | steps | hours of audio |", f"|---|{'---|' * len(metrics)}---|---|"]
    for one in content["systems"].values():
        rates = (f"{f['value']:.1f} ({f['low']:.1f}-{f['high']:.1f})" for f in one["figures"].values())
        trained = f"{one['steps']} | {one['hours_of_audio']}" if one["steps"] else "| "
        lines.append(f"| {one['title']} | {' | '.join(rates)} | {trained} |")
    lines.append("")
    for name, one in content["comparisons"].items():
        first, second = (content["systems"][system]["title"] for system in (one["of"], name))
        lines.append(f"- {first} - {second}: {one['name']} {one['difference']:+.1f}, p = {one['p_value']:.3g}.")
    items = next(iter(content["systems"].values()))["items"]
    return "\n".join([*lines, "", f"{items} test items. {content['machine']}; commit {content['commit']}."])


def machine() -> str:
    """Return what it ran on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    name = models[0] if models else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads of PyTorch {torch.__version__}"


def commit() -> str:
    """Return the commit of the source."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
