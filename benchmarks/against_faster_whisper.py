"""Compare `Transcriber` with faster-whisper on real speech, clip by clip, with the weights of the default model.

    python benchmarks/against_faster_whisper.py FOLDER [--clips 120] [--seed 7] [--threads 1] \
        [--systems float32 int8 fw-int8] [--beam_size 5] [--temperature 0] [--clock cpu]

The clips of `recipes/amazon_queen.py` are downloaded to FOLDER unless they exist; random ones are used. The systems
take turns, clip by clip, after one clip that is not counted, so that a machine whose speed drifts is fair to all:

    float32, bfloat16, int8       `Transcriber` with this compute type
    fw-float32, fw-int8           faster-whisper (which must be installed) with this one

RTFx is seconds of audio per second, from the samples to the text. "sampled" counts windows that the temperature
fallback decoded again. Transcripts are compared after `dragoman.evaluation.normalizers.normalize_english`.
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

Transcribe = Callable[[np.ndarray], tuple[str, int]]


def of_dragoman(compute_type: str, options: argparse.Namespace) -> Transcribe:
    """Return a function from samples to the text and the number of segments that were sampled."""
    from dragoman import Transcriber

    transcriber = Transcriber(device="cpu", threads=options.threads, compute_type=compute_type)

    def transcribe(samples: np.ndarray) -> tuple[str, int]:
        found = transcriber.transcribe(samples, beam_size=options.beam_size, **options.fallback)
        return found.text, sum(segment.temperature > 0 for segment in found.segments)

    return transcribe


def of_faster_whisper(compute_type: str, options: argparse.Namespace) -> Transcribe:
    """Return the same of faster-whisper."""
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(default_model_folder()), device="cpu", compute_type=compute_type, cpu_threads=options.threads
    )

    def transcribe(samples: np.ndarray) -> tuple[str, int]:
        segments = list(model.transcribe(samples, language="en", beam_size=options.beam_size, **options.fallback)[0])
        return "".join(one.text for one in segments), sum(one.temperature > 0 for one in segments)

    return transcribe


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--systems", nargs="+", default=["float32", "int8", "fw-int8"])
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--temperature", type=float, help="a single one; by default, each system's own fallback")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: for a busy machine")
    options = parser.parse_args()
    options.fallback = {} if options.temperature is None else {"temperature": options.temperature}
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    warnings.simplefilter("ignore")
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    rows = random.Random(options.seed).sample(fetch_rows(options.folder), options.clips)
    clips = [Clip(row["id"], load_audio(options.folder / row["audio_filepath"]), row["text"]) for row in rows]
    systems = {
        name: of_faster_whisper(name[3:], options) if name.startswith("fw-") else of_dragoman(name, options)
        for name in options.systems
    }
    texts: dict[str, list[str]] = {name: [] for name in systems}
    seconds, sampled = dict.fromkeys(systems, 0.0), dict.fromkeys(systems, 0)
    for number, clip in enumerate([clips[0], *clips]):
        for name, transcribe in systems.items():
            begin = clock()
            text, count = transcribe(clip.waveform)
            if number:
                seconds[name] += clock() - begin
                sampled[name] += count
                texts[name].append(normalize_english(text))
    length = sum(len(clip.waveform) for clip in clips) / RATE
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print(f"{len(clips)} clips, {length:.0f} s, seed {options.seed}, commit {commit.strip()}, {options.clock} clock\n")
    print("| system | RTFx | word error rate | sampled |\n|---|---|---|---|")
    references = [normalize_english(clip.text) for clip in clips]
    for name, found in texts.items():
        rate = jiwer.wer(references, found) * 100
        print(f"| {name} | {length / seconds[name]:.2f} | {rate:.1f} % | {sampled[name]} |")


if __name__ == "__main__":
    main()
