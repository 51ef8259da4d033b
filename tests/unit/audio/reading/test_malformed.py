"""Malicious files, decoded in another process: none may crash it, hang it or exhaust its memory."""

import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from dragoman.audio.reading.io import load_audio
from dragoman.errors import AudioError, MissingDependencyError

FORMATS = {
    "wav": {"format": "WAV"},
    "float.wav": {"format": "WAV", "subtype": "FLOAT"},
    "adpcm.wav": {"format": "WAV", "subtype": "MS_ADPCM"},
    "alaw.wav": {"format": "WAV", "subtype": "ALAW"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
    "w64": {"format": "W64"},
}
INTERESTING = (0, 1, 127, 128, 254, 255)


def originals() -> dict[str, bytes]:
    samples = 0.2 * np.random.default_rng(0).standard_normal((2_400, 2))
    made = {}
    for name, options in FORMATS.items():
        file = io.BytesIO()
        soundfile.write(file, samples.clip(-1, 1), 8_000, **options)
        made[name] = file.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file_in_zip:
        file_in_zip.writestr("a.wav", made["wav"])
    return made | {
        "zip": archive.getvalue(),
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100),
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08moov" + bytes(200),
        "webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01" + bytes(200),
        "asf": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9" + bytes(200),
    }


def wav_header(rate: int, channels: int, bits: int, tag: int, size: int, data: bytes) -> bytes:
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate, max(1, channels * bits // 8) & 0xFFFF, bits)
    return b"RIFF" + struct.pack("<I", size) + b"WAVEfmt \x10\0\0\0" + fmt + b"data" + struct.pack("<I", size) + data


def systematic() -> Iterator[tuple[str, bytes]]:
    """Yield the cases that no chance is needed for."""
    for name, data in originals().items():
        yield name, data
        for cut in (*range(0, 48, 4), len(data) // 2, len(data) - 1):
            yield f"{name} cut at {cut}", data[:cut]
        yield f"{name} twice", data * 2
        yield f"{name} after ID3", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + data
    for rate in (0, 1, 999, 2**16, 655_350, 2**31 - 1, 2**32 - 1):
        yield f"rate {rate}", wav_header(rate, 1, 16, 1, 2_000, bytes(2_000))
    for channels in (0, 64, 65, 255, 1_024, 65_535):
        for bits in (0, 8, 16, 64, 65_535):
            yield f"{channels} x {bits} bits", wav_header(16_000, channels, bits, 1, 4_000, bytes(4_000))
    for size in (0, 1, 2_001, 2**31 - 1, 2**32 - 2):
        for tag in (0, 1, 2, 3, 6, 17, 49, 85, 65_534):
            yield f"size {size} tag {tag}", wav_header(16_000, 1, 16, tag, size, bytes(2_000))
    yield "a million chunks", b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 1_000_000
    yield "endless ID3", b"ID3\x04\0\0\0\0\0\0" * 100_000
    yield "pages of OGG", (b"OggS\0\0" + bytes(20) + b"\0") * 100_000
    yield "streams of OGG", (b"OggS\0\2" + bytes(20) + b"\0" + b"OggS\0\0" + bytes(20) + b"\0") * 20_000


def mutated(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield files with some bytes changed, most of them in the header."""
    made = originals()
    for seed in range(count):
        chance = random.Random(seed)
        name = chance.choice(sorted(made))
        data = bytearray(made[name])
        for _ in range(chance.choice((1, 2, 4, 16))):
            place = chance.randrange(min(len(data), chance.choice((48, 256, len(data)))))
            data[place] = chance.choice((*INTERESTING, data[place] ^ 1 << chance.randrange(8)))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        yield f"{name} seed {seed}", bytes(data)


def attempt(data: bytes) -> str:
    try:
        samples = load_audio(data, max_seconds=60)
    except (AudioError, MissingDependencyError) as error:
        return "two lines" if "\n" in str(error) else type(error).__name__
    usable = len(samples) and samples.dtype == np.float32 and np.isfinite(samples).all()
    return "samples" if usable else "unusable samples"


def main(count: int) -> None:
    """Load every case and print the outcome."""
    # every warning is an error but this one: damage can invert a channel
    warnings.filterwarnings("ignore", "the given bytes: its channels cancel each other when mixed", UserWarning)
    load_audio(originals()["wav"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    slowest = (0.0, "")
    for cases in (systematic(), mutated(count)):
        for name, data in cases:
            print(name, file=sys.stderr, flush=True)  # after a crash, the last line tells
            begun = time.monotonic()
            outcome = attempt(data)
            outcomes[
                outcome if outcome in ("samples", "AudioError", "MissingDependencyError") else f"{name}: {outcome}"
            ] += 1
            slowest = max(slowest, (time.monotonic() - begun, name))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"outcomes": outcomes, "slowest": slowest, "grown_mib": grown}))


def check(count: int) -> None:
    environment = os.environ | {"PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, __file__, str(count)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=550,
    )
    assert run.returncode == 0, run.stderr[-3_000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert set(found["outcomes"]) <= {"samples", "AudioError", "MissingDependencyError"}
    assert found["outcomes"]["samples"] > 20
    assert found["outcomes"]["AudioError"] > count / 3
    assert found["slowest"][0] < 5
    assert found["grown_mib"] < 256


def test_malformed_audio_is_an_error_or_a_result() -> None:
    check(500)


@pytest.mark.slow
def test_much_malformed_audio_is_an_error_or_a_result() -> None:
    check(20_000)


if __name__ == "__main__":
    main(int(sys.argv[1]))
