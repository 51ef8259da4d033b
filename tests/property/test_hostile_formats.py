"""Hostile weight files of every format: refused, in little time and memory, whatever they claim; and seeded damage."""

import io
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import msgpack
import numpy as np
import pytest
import torch

from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.checkpoint.formats.gguf import GgufFile
from dragoman.checkpoint.formats.msgpack import MsgpackFile
from dragoman.checkpoint.tensors import SafetensorsFile, save_safetensors
from dragoman.errors import CheckpointError, ModelNotFoundError, UntrustedFileError
from dragoman.files import parse_json
from dragoman.torch.pickles import PickleFile

SECONDS = 2.0
MEGABYTES = 96


def peak() -> int:
    """Return the peak memory of this process, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def saved(data: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def deflated(raw: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return out.getvalue()


def bomb(opcodes: bytes) -> bytes:
    """Return a legacy file whose third pickle is `opcodes`."""
    magic, protocol = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02M\xe9\x03."
    system = b"\x80\x02}."
    return magic + protocol + system + b"\x80\x02" + opcodes + b"." + b"\x80\x02]."


def field(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def gguf_file(*fields: bytes, tensors: int = 0, count: int | None = None) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(fields) if count is None else count)
    return header + b"".join(fields) + bytes(100)


def sparse() -> Any:
    return torch.eye(3).to_sparse()


HOSTILE: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "bin: stride 0": (PickleFile, saved({"a": torch.zeros(1).expand(2**28)})),
    "bin: stride 0, legacy": (PickleFile, saved({"a": torch.zeros(1).expand(2**28)}, False)),
    "bin: deflated": (PickleFile, deflated(saved({"a": torch.zeros(2**24)}))),
    "bin: sparse": (PickleFile, saved({"a": sparse()})),
    "bin: sparse, legacy": (PickleFile, saved({"a": sparse()}, False)),
    "bin: meta": (PickleFile, saved({"a": torch.zeros(3, device="meta")})),
    "bin: a number as a name": (PickleFile, saved({"a": torch.zeros(1), 5: torch.zeros(1)})),
    "bin: bytearray": (PickleFile, bomb(b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R")),
    "bin: string": (PickleFile, bomb(b"\x8e" + struct.pack("<Q", 2**40))),
    "bin: tensor by size": (PickleFile, bomb(b"ctorch\nFloatTensor\nJ\xff\xff\xff\x3f\x85R")),
    "bin: storage by size": (
        PickleFile,
        bomb(b"}X\x01\x00\x00\x00a(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
             b"J\xff\xff\xff\x7fNtQs"),
    ),
    "gguf: array": (GgufFile, gguf_file(field(b"a", 9, struct.pack("<IQ", 0, 1 << 40)))),
    "gguf: array of strings": (GgufFile, gguf_file(field(b"a", 9, struct.pack("<IQ", 8, 1_999_999)))),
    "gguf: nested arrays": (GgufFile, gguf_file(field(b"a", 9, struct.pack("<IQ", 9, 1)))),
    "gguf: fields": (GgufFile, gguf_file(count=1 << 40)),
    "gguf: tensors": (GgufFile, gguf_file(tensors=1 << 40)),
    "gguf: string": (GgufFile, gguf_file(field(b"a", 8, struct.pack("<Q", 1 << 62)))),
    "gguf: type": (GgufFile, gguf_file(field(b"a", 77, b""))),
    "msgpack: list": (lambda path: MsgpackFile((path,)), b"\x81\xa1a\xdd\x7f\xff\xff\xff" + bytes(1000)),
    "msgpack: nested lists": (lambda path: MsgpackFile((path,)), b"\x81\xa1a" + b"\xdd\x00\x0f\x00\x00" * 2**20),
    "msgpack: empty maps": (
        lambda path: MsgpackFile((path,)),
        b"\x81\xa1a\xde\x00\x20" + b"".join(
            msgpack.packb(str(i)) + b"\xde\xff\xff" + b"".join(msgpack.packb(str(k)) + b"\x80" for k in range(65535))
            for i in range(32)
        ),
    ),
    "ctranslate2: variables": (
        Ct2File,
        struct.pack("<I", 6) + struct.pack("<H", 2) + b"a\0" + struct.pack("<II", 1, 2**32 - 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_claims_beyond_the_file_are_refused(name: str, tmp_path: Path) -> None:
    opener, raw = HOSTILE[name]
    path = tmp_path / "file"
    path.write_bytes(raw)
    before, start = peak(), time.process_time()
    with pytest.raises(CheckpointError) as caught:
        opener(path)
    assert time.process_time() - start < SECONDS
    assert peak() - before < MEGABYTES * 2**20
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_deep_json_is_refused(depth: int) -> None:
    with pytest.raises(UntrustedFileError, match=r"levels deep|not valid JSON"):
        parse_json(b'{"a":' * depth + b"1" + b"}" * depth, "config.json")
    assert parse_json(b'{"a":' * 60 + b"1" + b"}" * 60, "config.json")


def valid_files(folder: Path) -> dict[str, tuple[Callable[[Path], Any], bytes]]:
    """Return a small valid file of each format."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}
    save_safetensors(arrays, folder / "s", "np")
    writer = gguf.GGUFWriter(folder / "g", "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("token_embd.weight", arrays["a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    leaf = msgpack.ExtType(1, msgpack.packb([[2, 3], "float32", arrays["a"].tobytes()]))
    container = struct.pack("<I", 6) + struct.pack("<H", 2) + b"a\0" + struct.pack("<II", 1, 1)
    container += struct.pack("<H", 2) + b"x\0" + struct.pack("<BIBI", 1, 2, 0, 8) + bytes(8) + struct.pack("<I", 0)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {
        "safetensors": (lambda path: SafetensorsFile(path, "np"), (folder / "s").read_bytes()),
        "bin": (PickleFile, saved(tensors)),
        "legacy": (PickleFile, saved(tensors, False)),
        "gguf": (GgufFile, (folder / "g").read_bytes()),
        "msgpack": (lambda path: MsgpackFile((path,)), msgpack.packb({"a": leaf, "b": {"c": leaf}})),
        "ctranslate2": (Ct2File, container),
    }


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Return a file with one to three kinds of damage, most of it in the first bytes, where the counts are."""
    data = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(min(len(data), rng.choice([64, 256, len(data)])) or 1)
        match rng.randrange(5):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                data[place : place + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\xff" * 4, bytes(4)])
            case 2:
                data[place : place + 8] = struct.pack("<Q", rng.choice([2**31, 2**40, 2**62, len(data)]))
            case 3:
                del data[place : place + rng.randrange(1, 64)]
            case _:
                data[place:place] = data[place : place + rng.randrange(1, 32)]
    return bytes(data)


def soak(folder: Path, cases: int, seed: int) -> None:
    """Open damaged files of each format; each is read or refused within the bounds."""
    for name, (opener, raw) in valid_files(folder).items():
        path = folder / f"{name}.damaged"
        path.write_bytes(raw)
        opener(path)
        before, rng = peak(), random.Random(f"{name} {seed}")
        for case in range(cases):
            path.write_bytes(damaged(raw, rng))
            start = time.process_time()
            try:
                with opener(path) as file:
                    for key in file.keys():  # noqa: SIM118
                        file.read(key)
            except (CheckpointError, ModelNotFoundError):
                pass
            assert time.process_time() - start < SECONDS, (name, seed, case)
        assert peak() - before < MEGABYTES * 2**20, (name, seed)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    soak(tmp_path, 150, seed=0)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_many_damaged_files(seed: int, tmp_path: Path) -> None:
    soak(tmp_path, 5_000, seed)
