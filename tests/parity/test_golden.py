"""The recorded tensor names are those of the installed `transformers`."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("record_keys", GOLDEN / "record_keys.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.recordings())


@pytest.mark.slow
def test_golden_files_match_the_installed_release(recorded: dict[str, Any]) -> None:
    for family, content in recorded.items():
        assert json.loads((GOLDEN / family / "keys.json").read_text()) == json.loads(json.dumps(content)), (
            f"run tests/golden/record_keys.py: {family} is spelled differently now"
        )
