"""Transcribe many short clips as one command does, side by side with faster-whisper, with the default model's weights.

    python benchmarks/many_clips.py FOLDER [--clips 200] [--seed 11] [--threads 1] [--batch_size 8] [--beam_size 5] \
        [--systems torch torch-short onnx-int8 onnx-int8-short fw-int8]

The clips of `recipes/amazon-queen` are downloaded to FOLDER unless they exist; random ones of 1 to 10 s are used, and
the model is exported to FOLDER. The systems take turns, 20 clips at a time, after clips that are not counted. For each:
seconds of audio per second of CPU time and of wall-clock time, the word error rate after `normalize_english`, and how
many texts are those of the first system.

    torch, onnx-float32, onnx-int8    `Transcriber.transcribe_many` with this engine; with `-short`, short windows
    fw-int8, fw-float32               faster-whisper (which must be installed), one clip after the other
"""

import argparse
import os
import random
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np

from clips import RATE, Clip, fetch_rows
from dragoman.audio.reading.io import load_audio
from dragoman.checkpoint.default_model import default_model_folder
from dragoman.evaluation.normalizers import normalize_english

_TURN = 20

Transcribe = Callable[[list[np.ndarray]], list[str]]


def of_dragoman(name: str, given: argparse.Namespace) -> Transcribe:
    """Return a function from several clips to their texts."""
    from dragoman import AutoProcessor, SpeechEncoderDecoderModel, Transcriber
    from dragoman.torch.export.folder import export

    short, name = name.endswith("-short"), name.removesuffix("-short")
    if name == "torch":
        transcriber = Transcriber(device="cpu", threads=given.threads)
    else:
        folder = given.folder / f"default-{name}"
        if not (folder / "onnx").exists():
            export(SpeechEncoderDecoderModel.from_pretrained(default_model_folder()), folder, name[5:])
            AutoProcessor.from_pretrained(default_model_folder()).save_pretrained(folder)
        transcriber = Transcriber(folder, backend="onnx", threads=given.threads)
    options = {"beam_size": given.beam_size, "batch_size": given.batch_size, "short_windows": short}
    return lambda several: [one.text for one in transcriber.transcribe_many(several, **options)]


def of_faster_whisper(compute_type: str, given: argparse.Namespace) -> Transcribe:
    """Return the same of faster-whisper."""
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(default_model_folder()), device="cpu", compute_type=compute_type, cpu_threads=given.threads
    )
    return lambda several: [
        "".join(one.text for one in model.transcribe(samples, language="en", beam_size=given.beam_size)[0])
        for samples in several
    ]


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--systems", nargs="+", default=["torch", "torch-short", "onnx-int8-short", "fw-int8"])
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    warnings.simplefilter("ignore")
    rows, clips = fetch_rows(given.folder), []
    for row in random.Random(given.seed).sample(rows, len(rows)):
        clip = Clip(row["id"], load_audio(given.folder / row["audio_filepath"]), row["text"])
        clips += [clip] if 1 <= len(clip.waveform) / RATE <= 10 else []
        if len(clips) == given.clips:
            break
    systems = {
        name: of_faster_whisper(name[3:], given) if name.startswith("fw-") else of_dragoman(name, given)
        for name in given.systems
    }
    texts: dict[str, list[str]] = {name: [] for name in systems}
    spent = {name: np.zeros(2) for name in systems}
    for transcribe in systems.values():
        transcribe([clip.waveform for clip in clips[:2]])
    for turn, first in enumerate(range(0, len(clips), _TURN)):
        some, order = [clip.waveform for clip in clips[first : first + _TURN]], list(systems)
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            begin = np.array([time.process_time(), time.perf_counter()])
            texts[name] += systems[name](some)
            spent[name] += np.array([time.process_time(), time.perf_counter()]) - begin
        print(f"{len(texts[order[0]])} clips", *(f"{name} {spent[name][0]:.1f}" for name in order), flush=True)
    seconds = sum(len(clip.waveform) for clip in clips) / RATE
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print(f"{len(clips)} clips, {seconds:.0f} s, commit {commit.strip()}, {vars(given)}\n")
    print("| system | audio / CPU s | audio / wall s | word error rate | texts of the first |\n|---|---|---|---|---|")
    words = [normalize_english(clip.text) for clip in clips]
    for name, found in texts.items():
        rate = 100 * jiwer.wer(words, [normalize_english(text) for text in found])
        same = sum(a == b for a, b in zip(found, texts[given.systems[0]], strict=True))
        cpu, wall = seconds / spent[name]
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {rate:.2f} % | {same} of {len(clips)} |", flush=True)


if __name__ == "__main__":
    main()
