"""A server that the tests of this folder share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serving import running


@pytest.fixture(scope="session")
def server(tiny_checkpoint, tmp_path_factory):
    """A server with the default model and a tiny one, both loaded when first asked for."""
    default = "whisper-tiny.en=tiny.en"
    jobs = tmp_path_factory.mktemp("jobs")
    with running("--model", f"tiny={tiny_checkpoint}", "--model", default, "--max_batch", 8, "--jobs", jobs) as one:
        yield one
