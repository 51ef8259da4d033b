"""The table of a run: every system's word and character error rate with its interval, and what differs surely."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from dragoman.evaluation import compare, measure

NAMES = {
    "main": "recipe, greedy search",
    "main-beam": "recipe, 5 beams",
    "warm": "small budget",
    "cold": "small budget, decoder with random weights",
    "silent": "small budget, silence in place of the speech",
    "random-encoder": "small budget, encoder with random weights",
    "whisper": "Whisper tiny.en with its own decoder",
}


def main(folder: Path) -> None:
    """Write `reports/report.json` and `reports/report.md` from the evaluations that are there."""
    found = {name: read(folder / f"reports/{name}.json") for name in NAMES}
    systems = {name: one for name, one in found.items() if one is not None}
    content = {
        "machine": machine(),
        "commit": commit(),
        "systems": {name: facts(folder, name, one) for name, one in systems.items()},
        "warm_against": {
            name: against(systems["warm"], other)
            for name, other in systems.items()
            if "warm" in systems and name in ("cold", "silent", "random-encoder")
        },
    }
    (folder / "reports/report.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "reports/report.md").write_text(table(content) + "\n")


def read(path: Path) -> dict[str, Any] | None:
    """Return an evaluation, if there is one."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def facts(folder: Path, name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a system and what its training took."""
    log = folder / f"runs/{name.removesuffix('-beam')}/log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    steps = [line for line in lines if "loss" in line]
    return {
        "items": found["items"],
        "seconds": found["seconds"],
        "rtfx": found["rtfx"],
        "figures": {metric: found["figures"][metric] for metric in ("wer", "cer")},
        "options": found["options"],
        "steps": len(steps),
        "hours_of_audio": round(sum(line["seconds"] for line in steps) / 3600, 2),
    }


def against(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return how much lower the first system's word error rate is, with interval and p-value."""
    texts = [{one["id"]: one for one in found["results"]} for found in (first, second)]
    ids = sorted(texts[0].keys() & texts[1].keys())
    references = [texts[0][one]["reference"] for one in ids]
    measured = [
        measure("wer", references, [by[one]["hypothesis"] for one in ids], normalizer="english") for by in texts
    ]
    return vars(compare(*measured))


def table(content: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = ["| system | WER % (95 %) | CER % (95 %) | steps | hours of audio |", "|---|---|---|---|---|"]
    for name, one in content["systems"].items():
        rates = (f"{f['value']:.1f} ({f['low']:.1f}-{f['high']:.1f})" for f in one["figures"].values())
        trained = f"{one['steps']} | {one['hours_of_audio']}" if one["steps"] else "| "
        lines.append(f"| {NAMES[name]} | {' | '.join(rates)} | {trained} |")
    lines.append("")
    for name, one in content["warm_against"].items():
        lines.append(f"- Small budget against {NAMES[name]}: WER {one['difference']:+.1f}, p = {one['p_value']:.3g}.")
    items = next(iter(content["systems"].values()))["items"]
    return "\n".join([*lines, "", f"{items} test items. {content['machine']}; commit {content['commit']}."])


def machine() -> str:
    """Return what it ran on."""
    cpu = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if "model name" in line]
    name = models[0] if models else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads of PyTorch {torch.__version__}"


def commit() -> str:
    """Return the commit of the source."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
