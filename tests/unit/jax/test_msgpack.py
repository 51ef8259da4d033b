"""Files of upstream's Flax era, written by flax itself under the names that upstream's Flax models had."""

from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import pytest
from flax import serialization, traverse_util
from safetensors.numpy import load_file

from dragoman.errors import UntrustedFileError
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.msgpack import MsgpackFile

from .conftest import build

NORMS = ("norm", "LayerNorm", "ln_", "layer_norm")
TABLES = ("embeddings", "wte", "wpe", "embed_tokens", "embed_positions")


def flax_tree(folder: Path) -> dict[str, Any]:
    """Return a saved model's tensors as upstream's Flax models held them."""
    tree: dict[tuple[str, ...], np.ndarray] = {}
    for name, array in load_file(folder / "model.safetensors").items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        *path, last = name.replace("parametrizations.weight.original1", "weight_v").split(".")
        if last == "weight" and any(word in path[-1] for word in NORMS):
            last = "scale"
        elif last == "weight" and any(word in path[-1] for word in TABLES):
            last = "embedding"
        elif last == "weight":
            last, array = "kernel", np.ascontiguousarray(array.T)
        tree[*path, last] = array
    return traverse_util.unflatten_dict(tree)


def test_a_model_of_the_flax_era(tmp_path: Path) -> None:
    model = build(encoder={"feat_extract_norm": "layer", "do_stable_layer_norm": True})
    model.save_pretrained(tmp_path)
    tree = flax_tree(tmp_path)
    assert tree["encoder"]["feature_extractor"]["conv_layers"]["0"]["conv"]["kernel"].shape == (10, 1, 16)
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    (tmp_path / "model.safetensors").unlink()
    again = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again.load_report.fresh == []
    assert all(map(np.array_equal, jax.tree.leaves(again.params), jax.tree.leaves(model.params)))


def test_bfloat16_and_arrays_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    tree = {"a": {"kernel": np.arange(60, dtype=np.float32).reshape(3, 20)}, "b": jax.numpy.ones(3, jax.numpy.bfloat16)}
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(serialization.msgpack_serialize(tree))
    with MsgpackFile((path,)) as file:
        assert file.keys() == ["a.weight", "b"]
        assert np.array_equal(file.read("a.weight"), tree["a"]["kernel"].T)
        assert file.dtype("b") == "float32"
        assert file.read("b").tolist() == [1, 1, 1]


ARRAY = msgpack.packb(((3,), "float32", bytes(12)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no msgpack at all",
        msgpack.packb([1, 2]),
        msgpack.packb({"a": "text"}),
        msgpack.packb({1: msgpack.ExtType(1, ARRAY)}, strict_types=True),
        msgpack.packb({"a": msgpack.ExtType(2, ARRAY)}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((4,), "float32", bytes(12))))}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1,), "object", bytes(8))))}),
        msgpack.packb({"a": msgpack.ExtType(1, ARRAY)})[:-4],
        b"\x81\xa1a" * 2000 + b"\x80",
        msgpack.packb({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 3}}}),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(content)
    with pytest.raises(UntrustedFileError, match="not a file of Flax weights"):
        MsgpackFile((path,))
