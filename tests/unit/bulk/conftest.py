"""Twenty clips of real speech, a manifest of them, and what a worker needs to know."""

import json

import pytest
import soundfile

from dragoman.bulk.settings import Work
from dragoman.transcriber.options import TranscribeOptions

LOADING = {
    "device": "cpu",
    "source": {"revision": None, "cache_dir": None, "token": None, "local_files_only": True},
    "backend": "torch",
    "copy_weights": False,
    "compute_type": "default",
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory, sample):
    """A folder of clips of one to three seconds, and `clips.jsonl` beside it; read only."""
    root = tmp_path_factory.mktemp("archive")
    (root / "clips").mkdir()
    rows = []
    for number in range(20):
        start = 4000 * number
        name = f"clips/{number:02}.wav"
        soundfile.write(root / name, sample[start : start + 16_000 + 1600 * number], 16_000)
        rows.append({"id": f"clip {number}", "audio": name})
    (root / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def work(tmp_path, tiny_checkpoint) -> Work:
    options = TranscribeOptions(beam_size=2, batch_size=4, vad_filter=False)
    return Work(output=str(tmp_path / "out"), model=str(tiny_checkpoint), loading=LOADING, options=options)
