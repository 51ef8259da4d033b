"""What the recipes that run to the end share: commands of dragoman, whose results are kept and not made again."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def dragoman(folder: Path, *words: str) -> None:
    """Run a command of dragoman in a folder; its failure ends the recipe."""
    done = subprocess.run([sys.executable, "-m", "dragoman", *words], cwd=folder, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit(done.returncode)


def train(folder: Path, config: Path, name: str, changes: Mapping[str, object]) -> str:
    """Train a system, or go on with it; return the folder of its best model.

    Args:
        folder: Of the recipe's data.
        config: Its configuration.
        name: Of the system; its run is `runs/NAME`.
        changes: Options that differ from the configuration.
    """
    run = f"runs/{name}"
    sets = [word for option, value in changes.items() for word in ("--set", f"{option}={value}")]
    if not (folder / run / "finished").exists():
        dragoman(folder, "train", str(config.absolute()), "-o", run, "--resume", "--verbose", *sets)
        (folder / run / "finished").touch()
    return f"{run}/best"


def evaluate(folder: Path, name: str, model: str, data: str, options: Sequence[str]) -> None:
    """Evaluate a system into `reports/NAME.json`, unless it is there.

    Args:
        folder: Of the recipe's data.
        name: Of the system.
        model: Its folder.
        data: The manifest.
        options: Of `dragoman evaluate`.
    """
    (folder / "reports").mkdir(exist_ok=True)
    if not (folder / f"reports/{name}.json").exists():
        partial = f"reports/{name}.part"
        dragoman(folder, "evaluate", model, data, *options, "--json", partial)
        (folder / partial).rename(folder / f"reports/{name}.json")
