"""Malformed safetensors files and hostile indexes: each is refused, fast and in little memory, or read completely."""

import json
import random
import re
import resource
import struct
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from dragoman.checkpoint.layout import find_weights
from dragoman.checkpoint.tensors import SafetensorsFile
from dragoman.errors import CheckpointError, ModelNotFoundError, UntrustedFileError

GOOD = save(
    {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16), "c": np.zeros((0, 2), np.int64)}
)
HEADER_END = 8 + struct.unpack("<Q", GOOD[:8])[0]
ENTRY: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file(header: Any, data: bytes = b"12345678", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def with_entry(**changes: Any) -> bytes:
    return file({"a": ENTRY | changes})


def malformed() -> Iterator[bytes]:
    """Yield more than a thousand invalid files."""
    yield from (GOOD[:length] for length in range(len(GOOD)))
    yield from (GOOD + extra for extra in (b"\0", b"trailing", GOOD))
    for length in [*range(HEADER_END - 8), HEADER_END - 7, 2**31, 2**32, 2**63, 2**64 - 1, 100_000_001]:
        yield struct.pack("<Q", length) + GOOD[8:]
    for shape in (
        [3],
        [1],
        [2, 2],
        [-2],
        [2.0],
        ["2"],
        [None],
        [True, 2],
        [2**63, 2],
        [2**64],
        [10**30],
        [2**32, 2**32],
        2,
        None,
        {},
        "2",
        [[2]],
    ):
        yield with_entry(shape=shape)
    for offsets in (
        [8, 0],
        [-8, 0],
        [0, 9],
        [0, 7],
        [1, 9],
        [0, 2**63],
        [2**64 - 8, 2**64],
        [0],
        [0, 4, 8],
        [],
        None,
        {},
        "0,8",
        [0.0, 8.0],
        [10**40, 1],
    ):
        yield with_entry(data_offsets=offsets)
    for dtype in ("f32", "F33", "", None, 32, [], "object", "F64", "I8", "BOOL", "F32 ", "é"):
        yield with_entry(dtype=dtype)
    for missing in ENTRY:
        yield file({"a": {key: value for key, value in ENTRY.items() if key != missing}})
    for value in (None, 1, "x", [], [ENTRY], True, 1.5):
        yield file({"a": value})
        yield file({"a": ENTRY, "__metadata__": {"x": value} if value != "x" else value})
    half = {"dtype": "F32", "shape": [1]}
    for first, second in ([[0, 4], [0, 4]], [[0, 4], [2, 6]], [[0, 4], [5, 9]], [[4, 8], [4, 8]], [[0, 4], [8, 12]]):
        yield file({"a": half | {"data_offsets": first}, "b": half | {"data_offsets": second}})
    twice = json.dumps(ENTRY).encode()
    yield file(b'{"a":' + twice + b',"a":' + twice + b"}")
    yield file(b'{"a":' + twice[:-1] + b',"shape":[2]}}')
    yield file(b'{"__metadata__":{"x":"1","x":"2"},"a":' + twice + b"}")
    for raw in (
        b"",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{",
        b"}",
        b"{]",
        b"{'a': 1}",
        b'{"a"}',
        b'{"a":NaN}',
        b"\xff\xfe{\0}\0",
        b'{"\xff": 1}',
        b"\0" * 64,
    ):
        yield file(raw)
    for depth in (10, 1000, 100_000):
        yield file(b'{"a":' * depth + b"1" + b"}" * depth)
        yield file(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
        yield file(b'{"__metadata__":{"x":' + b"[" * depth + b"]" * depth + b"}}")
    yield file(b'{"a":' + b"9" * 100_000 + b"}")
    yield file(b'{"a":' + b" " * 5_000_000 + twice + b"}")
    rng = random.Random(0)
    for _ in range(300):
        yield rng.randbytes(rng.randrange(1, 400))
        yield struct.pack("<Q", rng.randrange(60)) + rng.randbytes(80)


MALFORMED = list(malformed())


def peak_memory() -> int:
    """Return the peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_malformed_files_are_refused(tmp_path: Path) -> None:
    assert len(MALFORMED) > 1000
    path = tmp_path / "model.safetensors"
    path.write_bytes(GOOD)
    SafetensorsFile(path, "np")
    before = peak_memory()
    for raw in MALFORMED:
        path.write_bytes(raw)
        start = time.process_time()
        with pytest.raises((UntrustedFileError, ModelNotFoundError), match=re.escape(str(path))) as caught:
            SafetensorsFile(path, "np")
        assert time.process_time() - start < 1
        assert len(str(caught.value)) < 600
    assert peak_memory() - before < 2 * max(map(len, MALFORMED)) + 32 * 2**20


def test_largest_header_is_parsed_in_a_second(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entries = {f"{i:05d}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(54_000)}
    path.write_bytes(file(entries, b"\0" * 216_000))
    assert path.stat().st_size > 4_100_000
    start = time.process_time()
    with SafetensorsFile(path, "np") as opened:
        assert len(opened.keys()) == 54_000
    assert time.process_time() - start < 3


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(GOOD) - 1), mask=st.integers(1, 255))
def test_file_with_a_flipped_byte_is_refused_or_read_completely(place: int, mask: int, tmp_path: Path) -> None:
    flipped = bytearray(GOOD)
    flipped[place] ^= mask
    path = tmp_path / "model.safetensors"
    path.write_bytes(flipped)
    try:
        with SafetensorsFile(path, "np") as opened:
            for key in opened.keys():  # noqa: SIM118
                assert opened.read(key).shape == opened.shape(key)
    except CheckpointError:
        assert place < HEADER_END


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3"]) | JSON,
        "shape": st.lists(st.integers(-2, 2**64), max_size=4) | JSON,
        "data_offsets": st.tuples(st.integers(0, 64), st.integers(0, 64)) | JSON,
    },
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.dictionaries(st.text(max_size=10), ENTRIES | JSON, max_size=4), data=st.binary(max_size=64))
def test_random_header_is_refused_or_read_completely(header: Any, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file(header, data))
    try:
        with SafetensorsFile(path, "np") as opened:
            for key in opened.keys():  # noqa: SIM118
                assert opened.read(key).shape == opened.shape(key)
    except CheckpointError:
        pass


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=st.fixed_dictionaries({"weight_map": st.dictionaries(st.text(max_size=10), st.text() | JSON)}) | JSON)
def test_random_index_is_refused_or_names_existing_files(index: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (tmp_path / "outside").write_bytes(b"")
    (folder / "inside").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    tracemalloc.start()
    try:
        found = find_weights(folder)
        assert all(path.parent == folder and path.is_file() for path in found.paths)
    except (UntrustedFileError, ModelNotFoundError):
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 * 2**20


PARTS = ["..", ".", "/", "\\", "a", "outside", "inside", "C:", "~", "\0", " ", "%2e%2e", "\u2025", "\uff0f"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
def test_shard_names_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    for made in (tmp_path / "outside", folder / "inside", folder / "a"):
        made.write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    try:
        (path,) = find_weights(folder).paths
    except (UntrustedFileError, ModelNotFoundError):
        return
    assert path.resolve().parent == folder.resolve()


@pytest.mark.nightly
@settings(max_examples=50_000, suppress_health_check=list(HealthCheck))
@given(
    raw=st.binary(max_size=300)
    | st.tuples(st.integers(0, 300), st.binary(max_size=300)).map(lambda x: file(x[1], b"", x[0]))
)
def test_random_files(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with suppress(CheckpointError):
        SafetensorsFile(path, "np")
