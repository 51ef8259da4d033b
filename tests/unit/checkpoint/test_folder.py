"""A folder as one checkpoint: its content, its format, and closing its files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dragoman.checkpoint.folder import Checkpoint, open_folder
from dragoman.errors import MissingDependencyError, ModelNotFoundError, UntrustedFileError
from dragoman.torch.pickles import PickleFile

A, B = np.arange(3.0, dtype=np.float32), np.ones((2, 2), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def shard(folder: Path) -> None:
    save_file({"a": A}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": B}, folder / "model-00002-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def contents(checkpoint: Checkpoint, framework: Any = "np", **options: Any) -> dict[str, Any]:
    with checkpoint.tensors(framework, **options) as file:
        return {key: np.asarray(file.read(key)) for key in file.keys()}  # noqa: SIM118


def test_one_file(folder: Path) -> None:
    save_file({"a": A, "b": B}, folder / "model.safetensors")
    checkpoint = open_folder(folder)
    assert checkpoint.config == {"model_type": "bert"}
    assert checkpoint.generation is None
    assert checkpoint.folder == folder
    found = contents(checkpoint)
    assert np.array_equal(found["a"], A)
    assert np.array_equal(found["b"], B)


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_shards(folder: Path, framework: str) -> None:
    shard(folder)
    found = contents(open_folder(folder), framework)
    assert sorted(found) == ["a", "b"]
    assert np.array_equal(found["b"], B)


def test_generation_options(folder: Path) -> None:
    save_file({"a": A}, folder / "model.safetensors")
    (folder / "generation_config.json").write_text('{"num_beams": 4}')
    assert open_folder(folder).generation == {"num_beams": 4}
    (folder / "generation_config.json").write_text("[4]")
    with pytest.raises(UntrustedFileError, match="generation_config"):
        open_folder(folder)


def test_pickles_need_a_reader(folder: Path) -> None:
    torch.save({"a": torch.from_numpy(A)}, folder / "pytorch_model.bin")
    checkpoint = open_folder(folder)
    assert np.array_equal(contents(checkpoint, "pt", read_pickle=PickleFile)["a"], A)
    with pytest.raises(MissingDependencyError, match=r"can only be read with PyTorch.*pip install .*\[torch\]"):
        checkpoint.tensors("np")


def test_a_variant(folder: Path) -> None:
    save_file({"a": A}, folder / "model.fp16.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"model\.fp16\.safetensors"):
        open_folder(folder)
    assert list(contents(open_folder(folder, variant="fp16"))) == ["a"]


def test_a_broken_shard_closes_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"broken")
    from dragoman.checkpoint import folder as module

    closed = []

    class Watched(module.SafetensorsFile):
        def __exit__(self, *args: Any) -> None:
            closed.append(self.path.name)
            super().__exit__(*args)

    monkeypatch.setattr(module, "SafetensorsFile", Watched)
    with pytest.raises(UntrustedFileError, match="00002"):
        open_folder(folder).tensors("np")
    assert closed == ["model-00001-of-00002.safetensors"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no folder"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="No weights in"):
        open_folder(tmp_path)
    save_file({"a": A}, tmp_path / "model.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UntrustedFileError, match=r"config\.json is not valid JSON"):
        open_folder(tmp_path)
