"""Loading needs about one copy of the weights, measured in separate processes by benchmarks/load_memory.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks/load_memory.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process had at most"),
]


@pytest.mark.parametrize(
    ("decoder", "kind"), [pytest.param("bart", "safetensors", marks=pytest.mark.nightly), ("gpt2", "bin")]
)
def test_peak_is_below_one_and_a_third_of_the_weights(tmp_path: Path, decoder: str, kind: str) -> None:
    """GPT-2 needs most: its matrices are stored transposed and copied while the file is still mapped."""
    arguments = ["--size", "medium", "--decoder", decoder, "--format", kind, "--library", "dragoman"]
    figures = tmp_path / "figures.json"
    subprocess.run([sys.executable, str(SCRIPT), *arguments, "--json", str(figures)], check=True, capture_output=True)
    found = json.loads(figures.read_text())["dragoman"]
    assert found["weights"] > 4e8
    assert 0.9 < found["ratio"] < 1.3
