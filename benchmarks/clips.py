"""Real speech for the benchmarks: clips from `recipes/amazon-queen/clips.py`, alone and joined into one recording."""

import json
import random
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dragoman.audio.reading.io import load_audio

RATE = 16_000


class Clip(NamedTuple):
    """A clip: its name, mono samples at 16 kHz, and its transcript."""

    id: str
    waveform: np.ndarray
    text: str


def fetch_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the metadata of each clip; download the clips unless they exist."""
    recipe = runpy.run_path(str(Path(__file__).parent.parent / "recipes" / "amazon-queen" / "clips.py"))
    return [json.loads(line) for line in recipe["main"](folder).read_text(encoding="utf-8").splitlines()]


def fetch_clips(folder: Path, count: int, seed: int) -> list[Clip]:
    """Return random clips of at least three words."""
    rows = [row for row in fetch_rows(folder) if len(row["text"].split()) >= 3]
    picked = random.Random(seed).sample(rows, count)
    return [Clip(row["id"], load_audio(folder / row["audio_filepath"]), row["text"]) for row in picked]


def joined(clips: Sequence[Clip], pause_s: float) -> tuple[np.ndarray, list[float]]:
    """Join clips with pauses; return the samples and the start of each clip in seconds."""
    pause = np.zeros(round(pause_s * RATE), dtype=np.float32)
    parts = [part for clip in clips for part in (clip.waveform, pause)]
    begins = np.cumsum([0, *(len(part) for part in parts)])[:-1:2] / RATE
    return np.concatenate(parts), begins.tolist()
