"""`pytorch_model.bin`: tensors of every format are read, and nothing else, however hostile the file."""

import io
import os
import pickle
import random
import struct
import subprocess
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman.errors import CheckpointError, UntrustedFileError
from dragoman.torch.backend import BACKEND
from dragoman.torch.pickles import PickleFile

STATE = {
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "a.half": torch.ones(3, dtype=torch.float16),
    "bf16": torch.ones(2, dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "flag": torch.tensor([True, False]),
    "strided": torch.arange(6.0).reshape(2, 3).T,
    "empty": torch.zeros(0, 4),
}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(data: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@FORMATS
@pytest.mark.parametrize("wrap", [dict, OrderedDict, lambda state: {"state_dict": state, "epoch": 3}])
def test_tensors_are_read(tmp_path: Path, zipped: bool, wrap: Any) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(saved(wrap(STATE), zipped))
    with PickleFile(path) as file:
        assert file.keys() == sorted(STATE)
        for name, tensor in STATE.items():
            assert file.shape(name) == tuple(tensor.shape)
            assert file.dtype(name) == str(tensor.dtype).removeprefix("torch.")
            assert torch.equal(file.read(name), tensor)
    assert file.keys() == []


def test_parameters_are_tensors(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(saved(torch.nn.Linear(2, 3).state_dict(keep_vars=True), True))
    assert PickleFile(path).keys() == ["bias", "weight"]


@FORMATS
@pytest.mark.parametrize(
    "data", [[torch.zeros(2)], torch.zeros(2), {"a": 1}, {"a": {"b": torch.zeros(2)}}, {}, None, 3]
)
def test_anything_but_named_tensors_is_refused(tmp_path: Path, zipped: bool, data: Any) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(saved(data, zipped))
    if data == {}:
        assert PickleFile(path).keys() == []
        return
    with pytest.raises(UntrustedFileError, match="must hold named tensors and nothing else"):
        PickleFile(path)


class Calls:
    """Unpickles to the result of a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(canary: Path) -> list[Any]:
    """Objects whose unpickling would write a file, by all known ways."""
    command, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    return [
        Calls(os.system, command),
        Calls(subprocess.call, ["touch", str(canary)]),
        Calls(subprocess.Popen, ["touch", str(canary)]),
        Calls(eval, code),
        Calls(exec, code),
        Calls(open, str(canary), "w"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(Calls, os.system, command),
        Calls(np.save, str(canary), np.zeros(1)),
        Calls(torch.save, 1, str(canary)),
        Calls(torch.load, str(canary)),
        Calls(torch.hub.load_state_dict_from_url, "file:///" + str(canary)),
        Calls(torch.serialization.add_safe_globals, [os.system]),
        Calls(Path.touch, canary),
        Calls(map, os.system, [command]),
    ]


@FORMATS
@pytest.mark.parametrize("place", ["value", "key", "nested", "whole"])
def test_hostile_pickles_are_refused_without_effect(tmp_path: Path, zipped: bool, place: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "pytorch_model.bin"
    for bomb in hostile(canary):
        data: Any = {
            "value": {**STATE, "bomb": bomb},
            "key": {bomb: torch.zeros(1)},
            "nested": {"state_dict": STATE, "extra": [{"deep": (bomb,)}]},
            "whole": bomb,
        }[place]
        path.write_bytes(saved(data, zipped))
        with pytest.raises(UntrustedFileError, match="It was refused"):
            PickleFile(path)
        path.write_bytes(pickle.dumps(data))  # not a PyTorch file
        with pytest.raises(UntrustedFileError, match="It was refused"):
            PickleFile(path)
        assert not canary.exists()


@FORMATS
def test_damaged_files_are_refused_or_read(tmp_path: Path, zipped: bool) -> None:
    rng = random.Random(0)
    whole, path = saved(STATE, zipped), tmp_path / "pytorch_model.bin"
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        damage = rng.choice(["flip", "cut", "insert", "zero"])
        if damage == "flip":
            data[place] ^= 1 << rng.randrange(8)
        elif damage == "cut":
            del data[place:]
        elif damage == "insert":
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            data[place : place + 8] = bytes(8)
        path.write_bytes(data)
        try:
            PickleFile(path)
        except UntrustedFileError:
            refused += 1
    assert refused > 100


def test_claimed_size_allocates_nothing(tmp_path: Path) -> None:
    """Sixteen gigabytes in a file of a few hundred bytes."""
    data = saved({"a": torch.zeros(12)}, zipped=False)
    claim = data.index(b"K\x0cN")
    data = data[:claim] + b"J" + struct.pack("<i", 2**31 - 1) + data[claim + 2 :]
    count = data.index(struct.pack("<q", 12))
    data = data[:count] + struct.pack("<q", 2**31 - 1) + data[count + 8 :]
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(data)
    with pytest.raises(UntrustedFileError, match="It was refused"):
        PickleFile(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"\x80", b"\x80\x04.", b"version https://git-lfs"])
def test_truncated_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(UntrustedFileError, match=r"pytorch_model\.bin is not a file of plain tensors"):
        PickleFile(path)


def test_dtype_names() -> None:
    assert all(BACKEND.dtype(name) is torch.float16 for name in ("float16", "torch.float16", torch.float16))
    assert BACKEND.dtype(None) is None
    for wrong in ("int8", "float17", torch.int64, "nn", 3, ""):
        with pytest.raises(CheckpointError, match="`dtype` must be"):
            BACKEND.dtype(wrong)


def test_an_archive_of_millions_of_members_is_refused_at_once(tmp_path: Path) -> None:
    """An empty member takes 50 bytes in the directory, and 500 in memory once it is read."""
    path, entry = tmp_path / "pytorch_model.bin", struct.Struct("<4s4B4HL2L5H2L")
    member = entry.pack(b"PK\1\2", 20, 0, 20, 0, *(0,) * 14)[:46]
    count = 1_000_000
    directory = b"PK\3\4" + bytes(26)
    start = len(directory)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(member), start, 0)
    path.write_bytes(directory + member * count + end)
    begin = time.perf_counter()
    with pytest.raises(UntrustedFileError, match=r"its directory has more than 8,388,608 bytes"):
        PickleFile(path)
    assert time.perf_counter() - begin < 1
