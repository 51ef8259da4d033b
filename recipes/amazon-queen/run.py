"""Train and evaluate the recipe, and the systems that it is compared with, by one command.

    python recipes/amazon-queen/run.py FOLDER

FOLDER gets the data, the runs and the reports. What is done is not done again, and training continues where it
stopped, so the same command goes on after any interruption. `--only main` trains the recipe alone. Each row of the
comparison has the same, small budget (`ROW`): none of them is as good as the recipe itself.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from prepare import main as prepare
from report import main as report

from dragoman.checkpoint.default_model import default_model_folder

CONFIG = Path(__file__).with_name("config.yaml")
ROW = {"training.align_steps": 400, "training.max_steps": 600, "training.eval_steps": 200}
ROWS = {
    "warm": {},
    "cold": {"model.decoder": "parts/random-decoder"},
    "silent": {"data.train": "silent-train.jsonl", "data.valid": "silent-valid.jsonl"},
    "random-encoder": {"model.encoder": "parts/random-encoder"},
}
DECODING = ("--normalizer", "english", "--temperature", "0", "--no_vad_filter", "--beam_size", "1")


def dragoman(folder: Path, *words: str) -> None:
    """Run a command of dragoman in a folder."""
    done = subprocess.run([sys.executable, "-m", "dragoman", *words], cwd=folder, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit(done.returncode)


def train(folder: Path, name: str, changes: dict[str, object]) -> str:
    """Train a system, or go on with it; return the folder of its best model."""
    run = f"runs/{name}"
    sets = [word for option, value in changes.items() for word in ("--set", f"{option}={value}")]
    if not (folder / run / "finished").exists():
        dragoman(folder, "train", str(CONFIG.absolute()), "-o", run, "--resume", "--verbose", *sets)
        (folder / run / "finished").touch()
    return f"{run}/best"


def evaluate(folder: Path, name: str, model: str, data: str = "test.jsonl", *options: str) -> None:
    """Evaluate a system on the test set, unless it was."""
    (folder / "reports").mkdir(exist_ok=True)
    if not (folder / f"reports/{name}.json").exists():
        partial = f"reports/{name}.part"
        dragoman(folder, "evaluate", model, data, *DECODING, "--json", partial, *options)
        (folder / partial).rename(folder / f"reports/{name}.json")


def main() -> None:
    """Prepare, train, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["main", *ROWS], help="train and evaluate this system alone")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    prepare(folder)
    if arguments.only in (None, "main"):
        model = train(folder, "main", {})
        evaluate(folder, "main", model)
        evaluate(folder, "main-beam", model, "test.jsonl", "--beam_size", "5", "--html", "reports/main.html")
    for name, changes in ROWS.items():
        if arguments.only in (None, name):
            data = "silent-test.jsonl" if name == "silent" else "test.jsonl"
            evaluate(folder, name, train(folder, name, {**ROW, **changes}), data)
    if arguments.only is None:
        evaluate(folder, "whisper", str(default_model_folder()))
        report(folder)
        print((folder / "reports/report.md").read_text())


if __name__ == "__main__":
    main()
