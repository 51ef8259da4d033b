"""Compare the seconds of audio a second in training with those of the Trainer of `transformers`.

    python benchmarks/training_throughput.py FOLDER [--rounds 5] [--clips 64] [--batch 4]

Both train the same model (a small wav2vec 2.0 with BERT, random weights, written by `transformers` into FOLDER) on the
same WAV files for one epoch: float32, AdamW, one thread, features made on the way. The durations are log-normal, as in
read speech: half are below 3 s, one in twenty above 9 s, none above 14 s. The noise in them says nothing, which does
not matter here.

The Trainer gets batches of `--batch` clips, in random order, and once more grouped by length, as with
`train_sampling_strategy="group_by_length"` and lengths that are known. dragoman's batches hold at most as many seconds,
padding included, as the Trainer's do on average. The systems take turns, epoch by epoch; all steps with their data are
timed, but no loading and saving. Memory is the peak of a process of its own for each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

RATE, LONGEST = 16_000, 14.0
MEAN = 4.0  # seconds, of such durations, rounded up
SYSTEMS = ("dragoman", "trainer", "trainer-grouped")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Step(NamedTuple):
    """The end of a step, by both clocks, and the seconds of audio in it."""

    wall: float
    cpu: float
    seconds: float


def write_data(folder: Path, count: int) -> None:
    """Write the clips and their manifest."""
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        seconds = float(np.clip(np.exp(random.normal(np.log(3.0), 0.65)), 0.7, LONGEST))
        samples = (0.1 * random.standard_normal(int(seconds * RATE))).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", samples, RATE)
        text = "".join(random.choice(list(LETTERS), size=max(2, int(4 * seconds))))
        rows.append({"id": str(number), "audio": f"{number}.wav", "text": text, "duration": len(samples) / RATE})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path) -> None:
    """Write the model as two checkpoints, with tokenizer and feature extractor."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512}
    speech = transformers.Wav2Vec2Config(hidden_size=128, conv_dim=(64,) * 7, num_conv_pos_embeddings=32, **sizes)
    transformers.Wav2Vec2Model(speech).save_pretrained(folder / "speech")
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "speech")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    transformers.BertModel(transformers.BertConfig(vocab_size=1000, hidden_size=128, **sizes)).save_pretrained(
        folder / "text"
    )
    (folder / "text/vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "text/tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def run_dragoman(folder: Path, batch: int) -> list[Step]:
    """Return the steps of an epoch."""
    from dragoman.training import train

    steps: list[Step] = []

    def note(record: dict[str, Any]) -> None:
        steps.append(Step(time.perf_counter(), time.process_time(), record["seconds"]))

    out = folder / f"run-{os.getpid()}-{time.time_ns()}"
    config = {
        "model": {"encoder": str(folder / "speech"), "decoder": str(folder / "text")},
        "data": {"train": str(folder / "train.jsonl"), "seconds_per_batch": batch * MEAN},
        "training": {
            "output_dir": str(out), "num_train_epochs": 1, "dataloader_num_workers": 0, "save_steps": 10**6,
            "use_cpu": True,
        },
    }  # fmt: skip
    train(config, listener=note)
    return steps


def run_trainer(folder: Path, batch: int, system: str) -> list[Step]:
    """Return the steps of an epoch."""
    import torch
    import transformers

    model = transformers.SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(folder / "speech", folder / "text")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder / "speech")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder / "text")
    model.config.decoder_start_token_id, model.config.pad_token_id = tokenizer.cls_token_id, tokenizer.pad_token_id
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]

    class Clips(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, place: int) -> dict[str, Any]:
            samples, _ = soundfile.read(folder / rows[place]["audio"], dtype="float32")
            features = extractor(samples, sampling_rate=RATE)
            return {"input_values": features.input_values[0], "labels": tokenizer(rows[place]["text"]).input_ids[1:]}

    read: list[float] = []  # seconds of each batch, in the order of the steps

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = extractor.pad([{"input_values": i["input_values"]} for i in items], padding=True, return_tensors="pt")
        read.append(sum(len(item["input_values"]) for item in items) / RATE)
        width = max(len(item["labels"]) for item in items)
        labels = [item["labels"] + [-100] * (width - len(item["labels"])) for item in items]
        return {**batch, "labels": torch.tensor(labels)}

    steps: list[Step] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.append(Step(time.perf_counter(), time.process_time(), read.pop(0)))

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / f"run-{os.getpid()}"), num_train_epochs=1, per_device_train_batch_size=batch,
        use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no", remove_unused_columns=False,
        logging_strategy="no", train_sampling_strategy="group_by_length" if system == "trainer-grouped" else "random",
    )  # fmt: skip
    dataset = Clips()
    if system == "trainer-grouped":  # the lengths, so that it need not read every file for them

        class Known(transformers.Trainer):
            def _get_train_sampler(self, *_: Any) -> Any:
                from transformers.trainer_pt_utils import LengthGroupedSampler

                return LengthGroupedSampler(batch, lengths=[int(row["duration"] * RATE) for row in rows])

        trainer = Known(model, arguments, data_collator=collate, train_dataset=dataset, callbacks=[Clock()])
    else:
        trainer = transformers.Trainer(
            model, arguments, data_collator=collate, train_dataset=dataset, callbacks=[Clock()]
        )
    trainer.train()
    return steps


def speeds(steps: list[Step]) -> dict[str, float]:
    """Return seconds of audio a second, by wall and by CPU time, of all steps after the first."""
    seconds = sum(step.seconds for step in steps[1:])
    first, last = steps[0], steps[-1]
    return {"wall": seconds / (last.wall - first.wall), "cpu": seconds / (last.cpu - first.cpu)}


def measure(system: str, folder: Path, batch: int) -> dict[str, float]:
    """Run a system for an epoch."""
    return speeds(run_dragoman(folder, batch) if system == "dragoman" else run_trainer(folder, batch, system))


def peak(system: str, folder: Path, batch: int) -> float:
    """Return the peak memory of a process that runs a system, in MB."""
    words = [sys.executable, __file__, str(folder), "--system", system, "--batch", str(batch)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Let the systems take turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder
    import torch

    torch.set_num_threads(1)
    if arguments.system is not None:
        measure(arguments.system, folder, arguments.batch)
        held = Path("/proc/self/status").read_text()  # getrusage would count the memory of the process that started it
        print(int(held.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train.jsonl").exists():
        write_model(folder)
        write_data(folder, arguments.clips)
    found: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    for _ in range(arguments.rounds):
        for system in SYSTEMS:
            found[system].append(measure(system, folder, arguments.batch))
            print(system, found[system][-1], flush=True)
    print("| system | s of audio a second | a second of CPU time | dragoman is faster by | peak memory, MB |")
    print("|---|---|---|---|---|")
    for system, rounds in found.items():
        wall, cpu = (statistics.median(one[kind] for one in rounds) for kind in ("wall", "cpu"))
        ratios = [own["cpu"] / one["cpu"] for own, one in zip(found["dragoman"], rounds, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"| {system} | {wall:.1f} | {cpu:.1f} | {spread} | {peak(system, folder, arguments.batch):.0f} |")


if __name__ == "__main__":
    main()
