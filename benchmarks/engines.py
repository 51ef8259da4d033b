"""Transcribe real clips with PyTorch and with exported graphs, one clip after the other, alternating in one process.

    python benchmarks/engines.py FOLDER [--clips 30] [--seed 0] [--threads 1] [--beam_size 5] [--model MODEL]

The clips of `recipes/amazon_queen.py` are downloaded to FOLDER unless they exist, and the model (by default Whisper
tiny.en) is exported to it. For each system: seconds of audio per second of CPU time and of wall-clock time, the word
error rate, and how many texts are those of PyTorch. With `--batches N`, the transcripts of N clips at batch sizes 1 and
8 are compared.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from clips import RATE, fetch_clips
from dragoman import AutoProcessor, SpeechEncoderDecoderModel, Transcriber
from dragoman.checkpoint.default_model import default_model_folder
from dragoman.evaluation.normalizers import normalize_english
from dragoman.torch.export.folder import export

SYSTEMS = {"PyTorch float32": None, "ONNX Runtime float32": "float32", "ONNX Runtime int8": "int8"}


def exported(model: Path, folder: Path, compute_type: str) -> Path:
    """Return a folder with graphs of a model, which is written unless it exists."""
    if not (folder / "onnx").exists():
        print(export(SpeechEncoderDecoderModel.from_pretrained(model), folder, compute_type))
        AutoProcessor.from_pretrained(model).save_pretrained(folder)
    return folder


def by_batch(transcriber: Any, waveforms: list[np.ndarray], beams: int, size: int) -> list[list[int]]:
    """Return the tokens of each clip, `size` clips at once."""
    engine, found = transcriber._engine, []
    prompt = engine.own_prompt()
    for first in range(0, len(waveforms), size):
        encoded = engine.encode(waveforms[first : first + size])
        rows = len(waveforms[first : first + size])
        tokens, _ = engine.runner.generate(encoded, np.array([prompt] * rows), num_beams=beams, max_new_tokens=60)
        end = engine.facts.end_ids[0]
        found += [[int(token) for token in row if token != end] for row in tokens]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--batches", type=int, default=0, help="Clips to compare at batch sizes 1 and 8.")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = given.model or default_model_folder()
    clips = fetch_clips(given.folder, given.clips, given.seed)
    systems = {
        name: Transcriber(model, threads=given.threads)
        if kind is None
        else Transcriber(
            exported(model, given.folder / f"{model.name}-{kind}", kind), backend="onnx", threads=given.threads
        )
        for name, kind in SYSTEMS.items()
    }
    texts: dict[str, list[str]] = {name: [] for name in systems}
    spent = {name: np.zeros(2) for name in systems}
    for transcriber in systems.values():
        transcriber.transcribe(clips[0].waveform, beam_size=given.beam_size)
    for number, clip in enumerate(clips):
        order = list(systems)
        for name in order[number % 3 :] + order[: number % 3]:
            begin = np.array([time.process_time(), time.perf_counter()])
            texts[name].append(systems[name].transcribe(clip.waveform, beam_size=given.beam_size).text)
            spent[name] += np.array([time.process_time(), time.perf_counter()]) - begin
    seconds = sum(len(clip.waveform) for clip in clips) / RATE
    words = [normalize_english(clip.text) for clip in clips]
    print(f"{len(clips)} clips, {seconds:.0f} s, {given.threads} threads, beam {given.beam_size}")
    print("| system | audio / CPU s | audio / wall s | word error rate | texts of PyTorch |")
    for name, found in texts.items():
        rate = 100 * jiwer.wer(words, [normalize_english(text) for text in found])
        same = sum(a == b for a, b in zip(found, texts["PyTorch float32"], strict=True))
        cpu, wall = seconds / spent[name]
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {rate:.2f} % | {same} of {len(clips)} |", flush=True)
    waveforms = [clip.waveform for clip in clips[: given.batches]]
    for name, transcriber in systems.items() if waveforms else ():
        alone, together = (by_batch(transcriber, waveforms, given.beam_size, size) for size in (1, 8))
        same = sum(a == b for a, b in zip(alone, together, strict=True))
        print(f"{name}: {same} of {len(waveforms)} transcripts are the same at batch sizes 1 and 8.", flush=True)


if __name__ == "__main__":
    main()
