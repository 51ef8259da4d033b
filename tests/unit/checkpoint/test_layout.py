"""Weight files and shards, against folders of `transformers`."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from dragoman.checkpoint.layout import find_weights, pick_weights, plan_shards
from dragoman.errors import ConfigError, ModelNotFoundError, UntrustedFileError

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


def write_index(folder: Path, weight_map: Any, name: str = "model.safetensors.index.json") -> None:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin"], {}, ("safetensors", "model.safetensors")),
        (["model.safetensors", "model.safetensors.index.json"], {}, ("safetensors", "model.safetensors")),
        (["model.safetensors.index.json", "pytorch_model.bin"], {}, ("safetensors", "model.safetensors.index.json")),
        (["pytorch_model.bin.index.json", "tf_model.h5"], {}, ("pytorch", "pytorch_model.bin.index.json")),
        (["flax_model.msgpack", "pytorch_model.bin"], {}, ("pytorch", "pytorch_model.bin")),
        (["flax_model.msgpack", "model.bin"], {}, ("flax", "flax_model.msgpack")),
        (["model.bin", "vocabulary.txt"], {}, ("ctranslate2", "model.bin")),
        (["model.safetensors", "pytorch_model.bin"], {"use_safetensors": False}, ("pytorch", "pytorch_model.bin")),
        (["pytorch_model.bin"], {"use_safetensors": True}, None),
        (
            ["model.safetensors", "model.fp16.safetensors"],
            {"variant": "fp16"},
            ("safetensors", "model.fp16.safetensors"),
        ),
        (
            ["model.safetensors.index.fp16.json"],
            {"variant": "fp16"},
            ("safetensors", "model.safetensors.index.fp16.json"),
        ),
        (["model.safetensors"], {"variant": "fp16"}, None),
        (["tf_model.h5", "model.onnx"], {}, None),
        ([], {}, None),
    ],
)
def test_pick(names: list[str], options: dict[str, Any], expected: tuple[str, str] | None) -> None:
    assert pick_weights(names, **options) == expected


def test_one_file(tmp_path: Path) -> None:
    fill(tmp_path, "model.safetensors", "config.json")
    found = find_weights(tmp_path)
    assert (found.format, found.paths, found.index) == ("safetensors", (tmp_path / "model.safetensors",), None)


def test_shards_of_transformers(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=60)
    model = BertModel(config)
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    found = find_weights(tmp_path)
    assert found.format == "safetensors"
    assert found.index is not None
    assert set(found.index) == set(model.state_dict())
    assert [path.name for path in found.paths] == sorted(set(found.index.values()))
    # And the other way: the same tensors in the same order give the same shards and the same index.
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in model.state_dict().items()}
    plan = plan_shards(sizes, "8KB")
    theirs = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert plan.index is not None
    assert plan.index["weight_map"] == theirs["weight_map"]
    assert plan.index["metadata"]["total_size"] == theirs["metadata"]["total_size"]
    assert set(plan.files) == {path.name for path in found.paths}


def test_transformers_loads_our_shards(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24))
    model.config.save_pretrained(tmp_path)
    state = model.state_dict()
    plan = plan_shards({name: tensor.numel() * tensor.element_size() for name, tensor in state.items()}, 20_000)
    for file, names in plan.files.items():
        save_file({name: state[name] for name in names}, tmp_path / file, {"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_bytes(plan.index_bytes())
    loaded, info = BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert all(torch.equal(loaded.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize("limit", [40, "40B", "0.04KB"])
def test_plan_keeps_the_order_and_separates_large_tensors(limit: int | str) -> None:
    plan = plan_shards({"a": 30, "b": 10, "c": 5, "giant": 90, "d": 35}, limit)
    assert plan.files == {
        "model-00001-of-00003.safetensors": ("a", "b"),
        "model-00002-of-00003.safetensors": ("giant",),
        "model-00003-of-00003.safetensors": ("c", "d"),
    }


def test_one_shard_needs_no_index() -> None:
    plan = plan_shards({"a": 30, "b": 10})
    assert plan.files == {"model.safetensors": ("a", "b")}
    assert plan.index is None
    assert plan_shards({}).files == {"model.safetensors": ()}


def test_index_bytes() -> None:
    plan = plan_shards({"b": 2, "a": 2}, 2)
    assert plan.index_bytes() == (
        b'{\n  "metadata": {\n    "total_size": 4\n  },\n  "weight_map": {\n'
        b'    "a": "model-00002-of-00002.safetensors",\n    "b": "model-00001-of-00002.safetensors"\n  }\n}\n'
    )


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("5 GiB", 5 * 2**30), ("1.5kb", 1500), ("7B", 7)])
def test_sizes(text: str, size: int) -> None:
    assert len(plan_shards({"a": 1, "b": size - 1}, text).files) == 1
    assert len(plan_shards({"a": 1, "b": size}, text).files) == 2


@pytest.mark.parametrize("size", ["", "5", "GB", "-5GB", "5XB", "0MB", 0, -1, True, 2.5, None, "5GB5", "iB", "1e3B"])
def test_impossible_sizes(size: Any) -> None:
    with pytest.raises(ConfigError, match="`max_shard_size` must be a positive number of bytes"):
        plan_shards({"a": 1}, size)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no folder .*nowhere"):
        find_weights(tmp_path / "nowhere")


def test_no_weights_lists_accepted_and_present_files(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", "tf_model.h5")
    with pytest.raises(ModelNotFoundError) as caught:
        find_weights(tmp_path)
    for name in ("model.safetensors,", "pytorch_model.bin.index.json", "model.bin", "holds config.json, tf_model.h5."):
        assert name in str(caught.value)
    with pytest.raises(ModelNotFoundError, match=r"variant='fp16'.*") as caught:
        find_weights(tmp_path, use_safetensors=True, variant="fp16")
    assert "looked for model.fp16.safetensors, model.safetensors.index.fp16.json (" in str(caught.value)


def test_all_missing_shards_are_listed(tmp_path: Path) -> None:
    write_index(tmp_path, {"a": SHARDS[0], "b": SHARDS[1], "c": "model-00003-of-00003.safetensors"})
    fill(tmp_path, SHARDS[1])
    with pytest.raises(ModelNotFoundError, match="2 of 3 weight files are missing") as caught:
        find_weights(tmp_path)
    assert f"{SHARDS[0]}, model-00003-of-00003.safetensors" in str(caught.value)


NAMES = [
    "../x", "..", ".", "", " ", "/etc/passwd", "a/b", "a\\b", "C:x", "C:\\x", "\\\\host\\x", "x\0y", "x\ny",
    "x" * 300, "...", "~/x/..", "con:", "a/../../b", "file:///etc/passwd", "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_shard_names_are_plain_file_names(name: str, tmp_path: Path) -> None:
    write_index(tmp_path, {"a": SHARDS[0], "b": name})
    fill(tmp_path, SHARDS[0])
    with pytest.raises(UntrustedFileError, match="only plain file names in the same folder are allowed"):
        find_weights(tmp_path)


@pytest.mark.parametrize("weight_map", [None, [], {}, "x", 3, {"a": 1}, {"a": None}, {"a": ["x"]}, {"a": {}}])
def test_corrupt_index(weight_map: Any, tmp_path: Path) -> None:
    write_index(tmp_path, weight_map)
    with pytest.raises(UntrustedFileError, match="weight_map"):
        find_weights(tmp_path)


def test_links_must_stay_inside(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "model"
    outside.mkdir()
    folder.mkdir()
    fill(outside, "secret")
    (folder / "model.safetensors").symlink_to(outside / "secret")
    with pytest.raises(UntrustedFileError, match="outside its folder: refused"):
        find_weights(folder)
    (folder / "model.safetensors").unlink()
    fill(folder, "weights-7")
    (folder / "model.safetensors").symlink_to("weights-7")
    assert find_weights(folder).paths == (folder / "model.safetensors",)


def test_a_broken_link_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("nothing")
    with pytest.raises(ModelNotFoundError, match=r"missing in .* broken links.*: model.safetensors"):
        find_weights(tmp_path)


@pytest.mark.parametrize("store", ["models--org--name/blobs", "blobs/ab"])
def test_links_of_the_hub_cache_are_fine(store: str, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / store, tmp_path / "models--org--name" / "snapshots" / ("0" * 40) / "sub"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    fill(blobs, "cafe")
    (snapshot / "model.safetensors").symlink_to(os.path.relpath(blobs / "cafe", snapshot))
    assert find_weights(snapshot).paths == (snapshot / "model.safetensors",)
    fill(tmp_path, "other")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(tmp_path / "other")
    with pytest.raises(UntrustedFileError, match="outside its folder"):
        find_weights(snapshot)


def test_a_linked_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    fill(tmp_path / "v1", "model.safetensors")
    (tmp_path / "current").symlink_to("v1")
    assert find_weights(tmp_path / "current").paths == (tmp_path / "current" / "model.safetensors",)
