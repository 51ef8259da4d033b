"""Reading and writing safetensors files, with PyTorch and NumPy."""

import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from dragoman.checkpoint.tensors import SafetensorsFile, Shards, TensorFile, save_safetensors, widen_bfloat16
from dragoman.errors import CheckpointError, DragomanError, ModelNotFoundError, UntrustedFileError

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def some_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = {str(dtype).removeprefix("torch."): (torch.randn(3, 5) * 4).to(dtype) for dtype in DTYPES}
    return tensors | {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "name with é / and spaces": torch.ones(2),
    }


def as_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(some_tensors(), tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path / "model.safetensors"


def test_pytorch_reads_every_type(path: Path) -> None:
    wanted = some_tensors()
    with SafetensorsFile(path, "pt") as file:
        assert file.keys() == sorted(wanted)
        for key, tensor in wanted.items():
            assert file.shape(key) == tuple(tensor.shape)
            assert f"torch.{file.dtype(key)}" == str(tensor.dtype)
            found = file.read(key)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)


def test_numpy_reads_every_type_and_widens_bfloat16(path: Path) -> None:
    with SafetensorsFile(path, "np") as file:
        for key, tensor in some_tensors().items():
            found = file.read(key)
            np.testing.assert_array_equal(found, as_numpy(tensor))
            assert found.shape == tuple(tensor.shape)
        assert file.dtype("bfloat16") == "bfloat16"
        assert file.read("bfloat16").dtype == np.float32


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pytorch_tensors_share_the_mapped_memory(path: Path) -> None:
    with SafetensorsFile(path, "pt") as file:
        address = file.read("float32").data_ptr()
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
        ranges = [[int(end, 16) for end in words[0].split("-")] for words in maps]
        assert any(start <= address < end for start, end in ranges)


def test_tensors_stay_valid_after_closing(path: Path) -> None:
    with SafetensorsFile(path, "pt") as file:
        tensor = file.read("float32")
    assert torch.equal(tensor, some_tensors()["float32"])


def test_a_folder_that_transformers_saved(tmp_path: Path) -> None:
    model = BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24))
    model.save_pretrained(tmp_path)
    with SafetensorsFile(tmp_path / "model.safetensors") as file:
        assert file.keys() == sorted(model.state_dict())
        assert all(torch.equal(file.read(key), tensor) for key, tensor in model.state_dict().items())


def test_unknown_tensor(path: Path) -> None:
    with SafetensorsFile(path) as file:
        for method in (file.read, file.shape, file.dtype):
            with pytest.raises(CheckpointError, match=r'holds no tensor \'float33\'. Did you mean "float32"'):
                method("float33")


def test_a_type_that_numpy_lacks(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3).to(torch.float8_e4m3fn)}, path)
    with SafetensorsFile(path, "np") as file:
        assert file.dtype("a") == "float8_e4m3fn"
        with pytest.raises(CheckpointError, match=r"'a' \(float8_e4m3fn\) .* cannot be read for 'np'"):
            file.read("a")


@pytest.mark.parametrize("framework", ["pt", "np"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite(framework: Any, dtype: torch.dtype, value: float, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    bad = torch.ones(2, 3, dtype=dtype)
    bad[1, 2] = value
    save_file({"good": torch.ones(2, dtype=dtype), "bad": bad, "whole": torch.arange(3)}, path)
    with SafetensorsFile(path, framework) as file:
        file.read("bad")
    with SafetensorsFile(path, framework, check_finite=True) as file:
        file.read("good")
        file.read("whole")
        with pytest.raises(UntrustedFileError, match=r"'bad' of .* has NaN or infinite values"):
            file.read("bad")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ModelNotFoundError, match="no file"):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "claims 0 bytes, but the file has 0"),
        (b"1234", "claims 0 bytes"),
        (struct.pack("<Q", 2**63), "at most 4,194,304 are allowed"),
        (struct.pack("<Q", 100) + b"{}", "claims 100 bytes, but the file has 10 in all"),
        (struct.pack("<Q", 2) + b"[]", "must hold a JSON object"),
        (struct.pack("<Q", 2) + b"{}trailing", "not a valid safetensors file"),
        (struct.pack("<Q", 15) + b'{"a":{},"a":{}}', "the same key twice"),
        (b"PK\x03\x04" + b"x" * 100, "its header claims"),
    ],
)
def test_corrupt_files_name_file_and_cause(raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(UntrustedFileError, match=reason) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)


def test_shards_are_one(tmp_path: Path) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"one": torch.ones(2), "two": torch.zeros(3, dtype=torch.float16)}, a)
    save_file({"three": torch.arange(4)}, b)
    with Shards([SafetensorsFile(a), SafetensorsFile(b)]) as shards:
        assert shards.keys() == ["one", "three", "two"]
        assert (shards.shape("three"), shards.dtype("two")) == ((4,), "float16")
        assert torch.equal(shards.read("three"), torch.arange(4))
        with pytest.raises(CheckpointError, match="no tensor 'for'"):
            shards.read("for")
    save_file({"one": torch.ones(2)}, b)
    with pytest.raises(UntrustedFileError, match="Two shards hold the tensor 'one'"):
        Shards([SafetensorsFile(a), SafetensorsFile(b)])


def test_both_kinds_of_file_are_tensor_files(path: Path) -> None:
    files: list[TensorFile] = [SafetensorsFile(path), Shards([SafetensorsFile(path)])]
    assert files[0].keys() == files[1].keys()


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_save(framework: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {key: value for key, value in some_tensors().items() if framework == "pt" or key != "bfloat16"}
    given = tensors if framework == "pt" else {key: value.numpy() for key, value in tensors.items()}
    save_safetensors(given, path, framework)
    loaded = load_file(path)
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in tensors.items())
    first = path.read_bytes()
    save_safetensors(dict(reversed(given.items())), path, framework)
    assert path.read_bytes() == first


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_transposed_and_strided_arrays_are_saved_right(framework: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    base = torch.arange(12.0).reshape(3, 4)
    views = {"transposed": base.T, "strided": base[:, ::2], "reversed": base.flip(0)}
    save_safetensors(views if framework == "pt" else {k: v.numpy() for k, v in views.items()}, path, framework)
    loaded = load_file(path)
    assert all(torch.equal(loaded[key], view) for key, view in views.items())


def test_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors({"a": np.ones(1)}, path, "np")
    assert b'{"format":"pt"}' in path.read_bytes()[:100]
    save_safetensors({"a": np.ones(1)}, path, "np", {"note": "x"})
    assert b'{"note":"x"}' in path.read_bytes()[:100]


def test_an_unwritable_path() -> None:
    with pytest.raises(DragomanError, match=r"/nowhere/x.safetensors cannot be written"):
        save_safetensors({"a": np.ones(1)}, "/nowhere/x.safetensors", "np")


def test_bfloat16_is_widened_exactly() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    wide = widen_bfloat16(bits)
    expected = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(wide, expected)
