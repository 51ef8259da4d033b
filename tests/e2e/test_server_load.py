"""Two hundred requests at concurrency 32: none is lost or mixed up. The large tier: `benchmarks/serve_load.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/serve_load.py"


@pytest.mark.slow
def test_no_answer_is_lost_or_mixed_up(tiny_checkpoint, tmp_path):
    figures = tmp_path / "figures.json"
    command = [SCRIPT, "--requests", "200", "--concurrency", "32", "--model", tiny_checkpoint, "--json", figures]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["different_answers"] > 10
    for name in ("batching", "one at a time"):
        assert (found[name]["right"], found[name]["wrong"], found[name]["lost"]) == (200, 0, 0)
        assert found[name]["memory_growth_mb"] < 100
    assert found["batching"]["windows_per_batch"] > 1.5 > found["one at a time"]["windows_per_batch"]
    assert found["exit code"] == 0
