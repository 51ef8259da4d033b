"""An exported model in an environment of its own, without PyTorch and JAX, made from the wheel."""

import subprocess
import sys
from pathlib import Path

import pytest

from dragoman import Transcriber
from dragoman.cli import main

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.network, pytest.mark.slow]
MOST_BYTES = 600e6

GENERATE = """
import sys
from importlib.util import find_spec
from dragoman import AutoProcessor, OnnxSpeechEncoderDecoderModel, load_audio
assert not any(map(find_spec, ("torch", "jax", "flax", "onnx")))
folder, audio = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
inputs = processor(load_audio(audio), sampling_rate=16_000, return_tensors="np")
tokens = OnnxSpeechEncoderDecoderModel.from_pretrained(folder).generate(**inputs, num_beams=2)
print(processor.batch_decode(tokens, skip_special_tokens=True)[0].strip())
"""


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its extra `onnx`."""
    folder = tmp_path_factory.mktemp("without")
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "iniconfig"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package registry can be reached")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("dragoman-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv")
    made = folder / "venv/bin/python"
    run(made, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[onnx]")
    return made


def test_environment_is_small(python: Path) -> None:
    files = (path for path in python.parents[1].rglob("*") if path.is_file() and not path.is_symlink())
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


@pytest.mark.parametrize("compute_type", [pytest.param("float32", marks=pytest.mark.nightly), "int8"])
def test_default_model_transcribes(python: Path, compute_type: str, sample_path: Path, tmp_path: Path) -> None:
    assert main(["export", "-o", str(tmp_path), "--compute_type", compute_type]) == 0
    dragoman = python.with_name("dragoman")
    text = run(dragoman, "transcribe", sample_path, "--model", tmp_path, "--engine", "onnx").strip()
    assert text == Transcriber().transcribe(sample_path).text
    assert run(dragoman, "transcribe", sample_path, "--model", tmp_path).strip() == text  # nothing else is installed
    assert "ONNX Runtime" in run(dragoman, "doctor")
    assert run(python, "-c", GENERATE, tmp_path, sample_path).strip()
