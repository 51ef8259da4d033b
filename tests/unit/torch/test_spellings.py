"""Files in every recorded spelling (tests/golden/*/keys.json); a family's first as pickles too, at night all."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dragoman.checkpoint.keymap import matches_any
from dragoman.checkpoint.options import LoadOptions
from dragoman.families import find
from dragoman.model.load import load_part
from dragoman.model.save import checkpoint_tensors
from dragoman.testing import tiny_config
from dragoman.torch.backend import BACKEND, own_tensors
from dragoman.torch.parts import SpeechEncoder, TextDecoder

GOLDEN = Path(__file__).parents[2] / "golden"
CROSS = {"is_decoder": True, "add_cross_attention": True}


def recordings() -> list[Any]:
    found = []
    for path in sorted(GOLDEN.glob("*/keys.json")):
        for i, recording in enumerate(json.loads(path.read_text())):
            name = f"{path.parent.name}-{i}-{recording['about']}"
            for kind in "safetensors", "zip", "legacy":
                marks = () if i == 0 or kind == "safetensors" else pytest.mark.nightly
                found.append(pytest.param(path.parent.name, recording, kind, id=f"{name}-{kind}", marks=marks))
    return found


def write(folder: Path, tensors: dict[str, torch.Tensor], kind: str) -> None:
    if kind == "safetensors":
        save_file(
            {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()},
            folder / "model.safetensors",
        )
    else:
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize(("model_type", "recording", "kind"), recordings())
def test_every_recorded_spelling_gives_the_same_weights(
    tmp_path: Path, model_type: str, recording: dict[str, Any], kind: str
) -> None:
    is_speech = recording["part"] == "speech"
    cls = SpeechEncoder if is_speech else TextDecoder
    family = find(model_type)
    tables = family.speech if is_speech else family.text
    assert tables is not None
    config = tiny_config(model_type, **recording["fields"])
    flags = {} if is_speech else CROSS
    original = cls(config.copy(**flags))
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.normal_()
    plain = checkpoint_tensors(BACKEND, original, tables.keymap(config), own_tensors(original))
    tensors = {name: plain[same] if same else torch.randn(2) for name, same in recording["keys"].items()}
    (tmp_path / "config.json").write_text(config.to_json_string())
    write(tmp_path, tensors, kind)

    loaded, report = load_part(BACKEND, cls, tmp_path, LoadOptions(), **flags)  # type: ignore[type-var]

    assert not loaded.training
    expected, found = own_tensors(original), own_tensors(loaded)
    for name, source in tables.copies:  # a copy if the file has no tensor for it
        if name in expected and not any(torch.equal(expected[name], tensor) for tensor in tensors.values()):
            expected[name] = expected[source]
    assert found.keys() == expected.keys()
    assert {*report.loaded, *report.fresh, *report.computed} == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in report.loaded)
    assert all(matches_any(tables.fresh, name) for name in report.fresh)
    left_out = {**report.dropped, **report.lost}
    assert left_out.keys() <= tensors.keys()
    assert {name for name, same in recording["keys"].items() if same is None} <= left_out.keys()
