"""Flax weights, written by flax with the names and layouts of earlier versions of `transformers`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import pytest
import torch
from flax import serialization, traverse_util
from safetensors.numpy import load_file

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, TextDecoder
from dragoman.checkpoint.formats.msgpack import MsgpackFile
from dragoman.errors import CheckpointError, UntrustedFileError
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import tiny_config

NORMS = ("norm", "LayerNorm", "ln_", "layer_norm")
TABLES = ("embeddings", "wte", "wpe", "embed_tokens", "embed_positions", "shared")
# Upstream's Flax had no other encoder than this wav2vec 2.0.
ENCODER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_hidden_layers": 1}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 24}


def flax_tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the tensors of a PyTorch checkpoint as the Flax models of `transformers` stored them."""
    tree: dict[tuple[str, ...], np.ndarray] = {}
    for name, array in tensors.items():
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


def to_flax(folder: Path) -> dict[str, Any]:
    """Replace the weights of a folder by a file of the Flax era; return its content."""
    tree = flax_tree(load_file(folder / "model.safetensors"))
    (folder / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    (folder / "model.safetensors").unlink()
    return tree


def build(decoder: str, **encoder: Any) -> SpeechEncoderDecoderModel:
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2", **ENCODER, **encoder),
        decoder=tiny_config(decoder),
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    return SpeechEncoderDecoderModel(config=config).eval()


@pytest.mark.parametrize("decoder", ["bert", "gpt2", "bart"])  # the decoders in the tests of `transformers`
@pytest.mark.parametrize("adapter", [{}, ADAPTER], ids=["plain", "adapter"])
def test_flax_weights_in_pytorch(tmp_path: Path, decoder: str, adapter: dict[str, Any]) -> None:
    model = build(decoder, **adapter)
    model.save_pretrained(tmp_path)
    tree = to_flax(tmp_path)
    assert tree["encoder"]["feature_extractor"]["conv_layers"]["0"]["conv"]["kernel"].shape == (10, 1, 16)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again.load_report.fresh == []
    wanted = model.state_dict()
    assert again.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.state_dict().items())
    again(torch.zeros(1, 800), labels=torch.ones(1, 3, dtype=torch.int64)).loss.backward()  # the memory is its own
    assert SpeechEncoderDecoderModel.from_pretrained(tmp_path, from_flax=True, dtype="bfloat16").dtype == torch.bfloat16


def test_flax_weights_in_jax(tmp_path: Path) -> None:
    model = build("bert")
    model.save_pretrained(tmp_path / "torch")
    model.save_pretrained(tmp_path / "flax")
    tree = to_flax(tmp_path / "flax")
    again, wanted = (FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / name) for name in ("flax", "torch"))
    assert again.load_report.fresh == []
    assert all(map(np.array_equal, jax.tree.leaves(again.tree), jax.tree.leaves(wanted.tree)))
    stored, shown = (traverse_util.flatten_dict(params) for params in (tree, again.params))
    assert shown.keys() <= stored.keys()  # the file has the bias of BERT's head twice, and its tied weight
    assert all(np.array_equal(leaf, stored[path]) for path, leaf in shown.items())


def test_jax_takes_flax_weights_where_there_are_pickles_too(tmp_path: Path) -> None:
    model = build("bert")
    parts = tmp_path / "encoder", tmp_path / "decoder"
    model.save_pretrained(tmp_path)
    wanted = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path).params
    model.encoder.save_pretrained(parts[0])
    model.decoder.save_pretrained(parts[1])
    for folder in (tmp_path, *parts):
        to_flax(folder)
        (folder / "pytorch_model.bin").write_bytes(b"never opened by JAX")
    whole = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert whole.load_report.fresh == []
    assert all(map(np.array_equal, jax.tree.leaves(whole.params), jax.tree.leaves(wanted)))
    joined = FlaxSpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*parts)
    for part in ("encoder", "decoder"):
        assert all(map(np.array_equal, jax.tree.leaves(joined.params[part]), jax.tree.leaves(wanted[part])))
    with pytest.raises(UntrustedFileError):  # PyTorch prefers its own
        SpeechEncoderDecoderModel.from_pretrained(tmp_path)


def test_flax_weights_always_have_the_mask_embedding(tmp_path: Path) -> None:
    build("bert").save_pretrained(tmp_path)
    to_flax(tmp_path)
    never = {"encoder_mask_time_prob": 0.0, "encoder_mask_feature_prob": 0.0}
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path, **never)
    assert model.encoder.mask_embed is None
    assert "encoder.masked_spec_embed" in model.load_report.dropped


def test_a_warm_start_from_a_sequence_to_sequence_model(tmp_path: Path) -> None:
    """Upstream's Flax left the embedding of such a decoder random: it lies under `shared`."""
    saved = TextDecoder(tiny_config("bart", is_decoder=True, add_cross_attention=True))
    saved.save_pretrained(tmp_path)
    tree = to_flax(tmp_path)
    tree["model"]["shared"] = tree["model"]["decoder"].pop("embed_tokens")
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    again = TextDecoder.from_pretrained(tmp_path)
    assert all(map(torch.equal, again.state_dict().values(), saved.state_dict().values()))


def test_shards(tmp_path: Path) -> None:
    model = build("gpt2")
    model.save_pretrained(tmp_path)
    tree = to_flax(tmp_path)
    (tmp_path / "flax_model.msgpack").unlink()
    names = {part: f"flax_model-0000{number}-of-00003.msgpack" for number, part in enumerate(sorted(tree), 1)}
    for part, name in names.items():
        (tmp_path / name).write_bytes(serialization.msgpack_serialize({part: tree[part]}))
    paths = ("/".join(path) for path in traverse_util.flatten_dict(tree))
    index = {"metadata": {"total_size": 1}, "weight_map": {path: names[path.partition("/")[0]] for path in paths}}
    (tmp_path / "flax_model.msgpack.index.json").write_text(json.dumps(index))
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_bfloat16_and_arrays_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    tree = {"a": {"kernel": np.arange(60, dtype=np.float32).reshape(3, 20)}, "b": jax.numpy.ones(3, jax.numpy.bfloat16)}
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(serialization.msgpack_serialize(tree))
    with MsgpackFile((path,)) as file:
        assert file.keys() == ["a.weight", "b"]
        assert file.shape("a.weight") == (20, 3)
        assert np.array_equal(file.read("a.weight"), tree["a"]["kernel"].T)
        assert file.dtype("b") == "float32"
        assert file.read("b").tolist() == [1, 1, 1]
        file.read("b")[0] = 5
        assert file.read("b").tolist() == [1, 1, 1]
        with pytest.raises(CheckpointError, match=r'Did you mean "a\.weight"'):
            file.read("a.weigth")


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
        msgpack.packb({"a": msgpack.ExtType(1, b"")}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(5))}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb((5, "float32", b"")))}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((4,), "float32", bytes(12))))}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1,), "float32", bytes(3))))}),
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
