"""`import dragoman` is quick and brings no framework; the layers hold."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "jax",
    "flax",
    "onnx",
    "onnxruntime",
    "transformers",
    "torchaudio",
    "av",
    "ray",
    "fastapi",
    "matplotlib",
)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_brings_no_framework() -> None:
    loaded = run(f"import sys, dragoman; print(*(name for name in {HEAVY!r} if name in sys.modules))")
    assert loaded.split() == []


def test_import_takes_less_than_half_a_second() -> None:
    timed = "import time; begin = time.perf_counter(); import dragoman; print(time.perf_counter() - begin)"
    # The best of three: the machine may be busy with something else, and the first run may write byte code.
    assert min(float(run(timed)) for _ in range(3)) < 0.5


def test_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
