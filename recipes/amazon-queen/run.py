"""Train and evaluate the recipe, and the systems that it is compared with, by one command.

    python recipes/amazon-queen/run.py FOLDER

FOLDER gets the data, the runs and the reports. What is done is not done again, and training continues where it
stopped, so the same command goes on after any interruption. `--only main` trains the recipe alone. Each row of the
comparison has the same, small budget (`ROW`): none of them is as good as the recipe itself.
"""

import argparse
import sys
from pathlib import Path

from prepare import main as prepare

from dragoman.checkpoint.default_model import default_model_folder

sys.path.append(str(Path(__file__).parent.parent))
from report import Row, report
from runs import evaluate, train

CONFIG = Path(__file__).with_name("config.yaml")
ROW = {"training.align_steps": 400, "training.max_steps": 600, "training.eval_steps": 200}
ROWS = {
    "warm": {},
    "cold": {"model.decoder": "parts/random-decoder"},
    "silent": {"data.train": "silent-train.jsonl", "data.valid": "silent-valid.jsonl"},
    "random-encoder": {"model.encoder": "parts/random-encoder"},
}
DECODING = ("--normalizer", "english", "--temperature", "0", "--no_vad_filter", "--max_new_tokens", "40")
GREEDY = (*DECODING, "--beam_size", "1")
NAMES = (
    Row("main", "recipe, greedy search"),
    Row("main-beam", "recipe, 5 beams", run="main"),
    Row("warm", "small budget"),
    Row("cold", "small budget, decoder with random weights", against="warm"),
    Row("silent", "small budget, silence in place of the speech", against="warm"),
    Row("random-encoder", "small budget, encoder with random weights", against="warm"),
    Row("whisper", "Whisper tiny.en with its own decoder, greedy search"),
)


def main() -> None:
    """Prepare, train, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["main", *ROWS], help="train and evaluate this system alone")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    prepare(folder)
    if arguments.only in (None, "main"):
        model = train(folder, CONFIG, "main", {})
        evaluate(folder, "main", model, "test.jsonl", GREEDY)
        evaluate(folder, "main-beam", model, "test.jsonl", (*DECODING, "--html", "reports/main.html"))
    for name, changes in ROWS.items():
        if arguments.only in (None, name):
            data = "silent-test.jsonl" if name == "silent" else "test.jsonl"
            evaluate(folder, name, train(folder, CONFIG, name, {**ROW, **changes}), data, GREEDY)
    if arguments.only is None:
        evaluate(folder, "whisper", str(default_model_folder()), "test.jsonl", GREEDY)
    print(report(folder, NAMES, ("wer", "cer")))


if __name__ == "__main__":
    main()
