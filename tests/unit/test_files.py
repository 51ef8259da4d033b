"""Small files: refused contents and their messages, and atomic writes."""

import os
import tracemalloc
from pathlib import Path

import pytest

from dragoman import BertConfig, GenerationConfig, Wav2Vec2FeatureExtractor
from dragoman.errors import ConfigError, DragomanError, ModelNotFoundError, TokenizerError, UntrustedFileError
from dragoman.files import claim, find_json, parse_json, read_bytes, read_json, write_bytes, write_json


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"[]", "must hold a JSON object, but holds a list"),
        (b"null", "holds a NoneType"),
        (b'"x"', "holds a str"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"a": "\xe9"}', "not valid JSON"),
        (b"[" * 5000, "not valid JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "not valid JSON"),
        (b"[" * 300_000, "more than 157,286 lists and objects"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"<html>", "not valid JSON"),
        (rb'{"a": "\ud800"}', "not valid JSON"),
        (b" " * (3 * 2**20 + 1), "larger than the limit of 3,145,728 bytes"),
    ],
)
def test_malformed_json_is_refused(raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(raw)
    with pytest.raises(UntrustedFileError, match=reason) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


def test_json_with_byte_order_mark_and_duplicate_keys(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": {"b": [1, 2.5, null, "\xc3\xa9"]}, "a": 2}')
    assert read_json(path) == {"a": 2}
    with pytest.raises(UntrustedFileError, match="same key twice"):
        parse_json(path.read_bytes(), path, unique_keys=True)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_missing_file_folder_or_pipe_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ModelNotFoundError, match="no file"):
        read_json(path)


@pytest.mark.parametrize("unit", [b"[],", b'{"a":1},', b'"ab",', b"1.5,", b"-9,", '"\u0100",'.encode()])
def test_hostile_json_takes_little_memory(unit: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a":[' + unit * ((3 * 2**20 - 20) // len(unit)) + b"1]}")
    tracemalloc.start()
    try:
        read_json(path)
    except UntrustedFileError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize("error", [ConfigError, TokenizerError])
def test_caller_chooses_the_error_class(tmp_path: Path, error: type[DragomanError]) -> None:
    path = tmp_path / "some.json"
    assert find_json(path, error) == {}
    for content in (b"{", b"[]", b" " * (3 * 2**20 + 1), b"[" * 200_000):
        path.write_bytes(content)
        with pytest.raises(error, match=r"some\.json"):
            find_json(path, error)
    with pytest.raises(error, match="larger than the limit of 9 bytes"):
        read_bytes(path, 9, error)


def test_json_is_written_in_the_style_of_transformers(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"b": "é", "a": [1]})
    assert (tmp_path / "new" / "a.json").read_text() == '{\n  "a": [\n    1\n  ],\n  "b": "é"\n}\n'


WRITERS = {
    "bytes": lambda folder: write_bytes(folder / "config.json", b"new"),
    "configuration": lambda folder: BertConfig().save_pretrained(folder),
    "generation options": lambda folder: GenerationConfig(num_beams=3).save_pretrained(folder),
    "feature extractor": lambda folder: Wav2Vec2FeatureExtractor().save_pretrained(folder),
}


@pytest.mark.parametrize("name", WRITERS)
def test_failed_write_keeps_the_old_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("config.json", "generation_config.json", "preprocessor_config.json"):
        (tmp_path / file).write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DragomanError, match=r"config\.json cannot be written \(No space left on device\)"):
        WRITERS[name](tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


@pytest.mark.parametrize("name", WRITERS)
def test_file_in_place_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(DragomanError, match=r"taken.* cannot be written"):
        WRITERS[name](tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_temporary_files_of_killed_processes_are_removed_by_the_next_write(tmp_path: Path) -> None:
    left, running, other = (tmp_path / f".dragoman-{n}.tmp" for n in ("0" * 16, "1" * 16, "mine"))
    for path in (left, running, other):
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    mark = claim(running)
    write_bytes(tmp_path / "config.json", b"new")
    assert (left.exists(), running.exists(), other.exists()) == (False, True, True)
    os.close(mark)
    write_bytes(tmp_path / "config.json", b"newer")
    assert not running.exists()
