import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dragoman.errors import AudioError, ConfigError
from dragoman.transcriber.recordings import (
    AUDIO_EXTENSIONS,
    Recording,
    find_audio_files,
    find_recordings,
    with_distinct_outputs,
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with recordings that are never decoded."""
    for name in ("a.wav", "a.mp3", "talks/day 1/b.flac", "talks/c.v2.ogg", "talks/notes.txt", "talks/.hidden.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"RIFF")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stems(*names: str) -> dict[str, str]:
    inputs, unusable = find_recordings(names)
    assert unusable == []
    return {item.label: item.stem.as_posix() for item in with_distinct_outputs(inputs)}


def test_outputs_are_named_after_files_and_keep_their_place_in_a_folder(folder):
    assert stems("a.wav", "talks") == {
        "a.wav": "a",
        "talks/c.v2.ogg": "c.v2",
        "talks/day 1/b.flac": "day 1/b",
    }


def test_the_same_file_named_twice_is_one_recording(folder):
    assert stems("a.wav", "./a.wav", os.path.abspath("a.wav")) == {"a.wav": "a"}


def test_outputs_keep_the_ending_of_files_that_differ_only_in_it(folder):
    assert stems("a.wav", "a.mp3", "talks/c.v2.ogg") == {"a.wav": "a.wav", "a.mp3": "a.mp3", "talks/c.v2.ogg": "c.v2"}


def test_names_that_differ_only_in_case_are_not_distinct(folder):
    (folder / "A.ogg").write_bytes(b"OggS")
    assert stems("a.wav", "A.ogg") == {"a.wav": "a.wav", "A.ogg": "A.ogg"}


def test_one_name_in_two_folders_keeps_the_folder(folder):
    for name in ("monday/a.wav", "tuesday/a.wav"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"RIFF")
    assert stems("monday/a.wav", "tuesday/a.wav") == {
        "monday/a.wav": "monday/a.wav",
        "tuesday/a.wav": "tuesday/a.wav",
    }


def test_two_recordings_never_share_a_file(folder):
    for name in ("one/talks/a.wav", "two/talks/a.wav"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"RIFF")
    inputs, _ = find_recordings(["one/talks/a.wav", "two/talks/a.wav"])
    with pytest.raises(ConfigError, match=r"one/talks/a\.wav and two/talks/a\.wav would be written to the same file"):
        with_distinct_outputs(inputs)


def test_a_name_equal_to_the_output_of_another_is_refused(folder):
    (folder / "a.wav.flac").write_bytes(b"fLaC")
    inputs, _ = find_recordings(["a.wav", "a.mp3", "a.wav.flac"])
    with pytest.raises(ConfigError, match="would be written to the same file"):
        with_distinct_outputs(inputs)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("missing.wav", "no such file"),
        ("empty", "no audio files in this folder"),
        ("void.wav", "is empty"),
        ("pipe.wav", "is a pipe"),
        ("x" * 300, "cannot be opened"),
        ("a\0b.wav", "cannot be opened"),
    ],
)
def test_unusable_files_are_returned_with_the_reason(folder, name, cause):
    (folder / "void.wav").touch()
    os.mkfifo(folder / "pipe.wav")
    inputs, unusable = find_recordings([name, "a.wav"])
    assert [item.label for item in inputs] == ["a.wav"]
    ((label, error),) = unusable
    assert label == name
    assert cause in str(error)


def test_one_unusable_file_of_a_folder_leaves_the_others(folder):
    (folder / "talks/void.wav").touch()
    inputs, unusable = find_recordings(["talks"])
    assert len(inputs) == 2
    assert [label for label, _ in unusable] == ["talks/void.wav"]


def test_standard_input_is_read_as_bytes(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"RIFF")))
    ((item,), unusable) = find_recordings(["-"])
    assert unusable == []
    assert (item.label, item.stem, item.seconds()) == ("-", Path("stdin"), None)
    assert item.source().read() == b"RIFF"


def test_a_terminal_is_refused(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    inputs, ((_, error),) = find_recordings(["-"])
    assert inputs == []
    assert "standard input is a terminal" in str(error)


def test_the_length_of_a_header_may_be_missing(folder):
    (item,), _ = find_recordings(["a.wav"])
    assert item.seconds() is None


def test_folders_are_expanded_in_order(tmp_path: Path) -> None:
    for name in ("b.wav", "a.MP3", "notes.txt", "sub/c.flac", "sub/.hidden.wav", ".git/d.wav", "._b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inside = [tmp_path / "a.MP3", tmp_path / "b.wav", tmp_path / "sub/c.flac"]
    assert find_audio_files([tmp_path]) == inside
    named = tmp_path / "notes.txt"
    assert find_audio_files([named, inside[1], str(tmp_path), "missing.wav"]) == [
        named, inside[1], inside[0], inside[2], Path("missing.wav"),
    ]  # fmt: skip
    assert {path.suffix.lower() for path in inside} <= AUDIO_EXTENSIONS


def test_a_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AudioError, match="no audio files"):
        find_audio_files([tmp_path])


def test_circular_links_end(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_audio_files([tmp_path]) == [tmp_path / "a.wav"]


def test_media_files_are_found_and_typescript_is_not(tmp_path):
    names = ["a.m2ts", "b.MPG", "c.flv", "d.wv", "e.ac3", "f.ra", "g.ogv", "h.spx", "i.wmv"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "talk.ts").write_bytes((b"G" + bytes(187)) * 5)
    (tmp_path / "page.ts").write_text("Globals.start();\nexport default Globals;\n" * 100)
    assert [path.name for path in find_audio_files([tmp_path])] == [*names, "talk.ts"]


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_the_length_of_an_mp3_is_that_of_its_first_frame(rate: int, tmp_path: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(3 * rate).astype(np.float32)
    soundfile.write(tmp_path / "a.mp3", wave, rate)
    (tmp_path / "untitled").write_bytes((tmp_path / "a.mp3").read_bytes())
    for name in ("a.mp3", "untitled"):
        assert Recording(path=tmp_path / name, stem=Path(name)).seconds() == pytest.approx(3, abs=0.2)


def test_what_is_no_mp3_is_refused_in_one_line_of_ours(tmp_path: Path) -> None:
    """The decoder of MP3 in libsndfile writes on standard error by itself, which only another process shows."""
    (tmp_path / "notes.mp3").write_text("no audio at all, but long enough to look for some in it\n" * 9)
    words = [sys.executable, "-m", "dragoman", "transcribe", str(tmp_path / "notes.mp3")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no complete MP3 frame" in done.stderr
