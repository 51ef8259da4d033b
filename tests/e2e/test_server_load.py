"""Many requests at concurrency 32, and parts of the server killed amid requests: none is lost or mixed up.

The scripts do more by their options: `benchmarks/serve_load.py` and `benchmarks/serve_faults.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def figures_of(script: str, model: Path, folder: Path, *flags: object) -> dict:
    figures = folder / "figures.json"
    command = [SCRIPTS / script, "--model", model, "--json", figures, *flags]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(figures.read_text())


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(64, marks=pytest.mark.slow),
        pytest.param(2000, marks=pytest.mark.nightly),  # the same at length: a minute or two
    ],
)
def test_no_answer_is_lost_or_mixed_up(tiny_checkpoint, tmp_path, requests):
    found = figures_of("serve_load.py", tiny_checkpoint, tmp_path, "--requests", requests, "--concurrency", 32)
    assert found["different_answers"]["dragoman"] > 10
    for name in ("batching", "single"):
        assert (found[name]["right"], found[name]["wrong"], found[name]["lost"]) == (requests, 0, 0)
        assert found[name]["memory_growth_mb"] < 100
        assert found[name]["exit_code"] == 0
    assert found["batching"]["windows_per_batch"] > 1.5 > found["single"]["windows_per_batch"]


@pytest.mark.nightly  # minutes: the server is started ten times
def test_nothing_is_lost_when_parts_are_killed(tiny_checkpoint, tmp_path):
    counts = ["--kills", 40, "--stops", 4, "--crashes", 4, "--unloads", 0]
    found = figures_of("serve_faults.py", tiny_checkpoint, tmp_path, *counts)
    assert found["kills"]["killed"] > 20
    assert found["kills"]["right"] == 40
    assert found["stops"]["exit code 0"] == 4
    assert found["crashes"]["jobs"] == found["crashes"]["right"] > 4
