"""Train and evaluate the recipe, and the systems that it is compared with, by one command.

    python recipes/fish-fillets/run.py FOLDER

FOLDER gets the data, the runs and the reports. What is done is not done again, and training continues where it
stopped, so the same command goes on after any interruption. `--only main` trains the recipe alone.
"""

import argparse
import sys
from pathlib import Path

from prepare import main as prepare

sys.path.append(str(Path(__file__).parent.parent))
from report import Row, report
from runs import evaluate, train

CONFIG = Path(__file__).with_name("config.yaml")
METRICS = ("bleu", "chrf")
DECODING = ("--metrics", ",".join(METRICS), "--temperature", "0", "--no_vad_filter")
NAMES = (
    Row("main", "recipe"),
    Row("silent", "silence in place of the speech", against="main"),
    Row("whisper", "Whisper base with its own decoder", against="main"),
)


def main() -> None:
    """Prepare, train, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["main", "silent", "whisper"], help="this system alone")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    prepare(folder)
    if arguments.only in (None, "main"):
        evaluate(folder, "main", train(folder, CONFIG, "main", {}), "test.jsonl", DECODING)
    if arguments.only in (None, "silent"):
        silence = {"data.train": "silent-train.jsonl", "data.valid": "silent-valid.jsonl"}
        evaluate(folder, "silent", train(folder, CONFIG, "silent", silence), "silent-test.jsonl", DECODING)
    if arguments.only in (None, "whisper"):
        evaluate(folder, "whisper", "parts/whisper", "test.jsonl", (*DECODING, "--task", "translate"))
    print(report(folder, NAMES, METRICS))


if __name__ == "__main__":
    main()
