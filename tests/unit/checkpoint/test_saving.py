"""A save is all or nothing: a fault at any system call, or a kill before it, leaves the old files or the new ones."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman import files
from dragoman.checkpoint import saving
from dragoman.checkpoint.layout import find_weights
from dragoman.checkpoint.saving import finish_save, save_folder
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.errors import CheckpointError, DragomanError, UntrustedFileError

OLD = {"config.json": b"old", "model-00001-of-00002.safetensors": b"o1", "model-00002-of-00002.safetensors": b"o2"}
OLD_INDEX = {"model.safetensors.index.json": b"old index"}
NEW: dict[str, bytes | Callable[[Path], Any]] = {
    "config.json": b"new",
    "model.safetensors": lambda path: path.write_bytes(b"new weights"),
}
CALLS = ("fsync", "rename", "replace", "unlink", "rmdir", "open")


def content(folder: Path) -> dict[str, bytes]:
    """Return what a loader would find: the files, after the moves of an interrupted save have been finished."""
    finish_save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def old_folder(folder: Path) -> Path:
    save_folder(folder, OLD | OLD_INDEX)
    (folder / "README.md").write_bytes(b"mine")
    (folder / "logs").mkdir()
    (folder / "logs" / "day").write_bytes(b"1")
    return folder


OLD_CONTENT = OLD | OLD_INDEX | {"README.md": b"mine"}
NEW_CONTENT = {"config.json": b"new", "model.safetensors": b"new weights", "README.md": b"mine"}


def test_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    save_folder(folder, NEW)
    assert content(folder) == {"config.json": b"new", "model.safetensors": b"new weights"}
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]


def test_old_weights_are_removed_and_other_files_kept(tmp_path: Path) -> None:
    folder = old_folder(tmp_path)
    save_folder(folder, NEW)
    assert content(folder) == NEW_CONTENT
    assert (folder / "logs" / "day").read_bytes() == b"1"
    save_folder(folder, {"config.json": b"newer"})
    assert content(folder) == NEW_CONTENT | {"config.json": b"newer"}


def test_weights_of_another_variant_or_format_stay(tmp_path: Path) -> None:
    fp16 = ["model.fp16.safetensors", "model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"]
    others = [*fp16, "pytorch_model.bin", "adapter_model.safetensors", "model-1.safetensors", "my_model.safetensors"]
    for name in [*others, "model-00001-of-00002.safetensors"]:
        (tmp_path / name).write_bytes(b"kept")
    save_folder(tmp_path, NEW)
    assert set(os.listdir(tmp_path)) == {*others, *NEW}
    save_folder(tmp_path, {"model.fp16.safetensors": b"new"})
    left = {*others, *NEW} - set(fp16[1:])
    assert set(os.listdir(tmp_path)) == left


def test_the_folder_itself_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = old_folder(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    before = folder.stat().st_ino
    monkeypatch.chdir(folder)
    save_folder(".", NEW)
    assert content(Path.cwd()) == NEW_CONTENT
    save_folder(tmp_path / "link", {"config.json": b"newer"})
    assert (folder.stat().st_ino, (folder / "config.json").read_bytes()) == (before, b"newer")


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"shared")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(blob)
    save_folder(tmp_path / "model", NEW)
    assert blob.read_bytes() == b"shared"


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    save_folder(tmp_path, {"a.safetensors": lambda path: save_safetensors({"a": np.ones(1)}, path, "np"), "b": b""})
    modes = {(tmp_path / name).stat().st_mode for name in ("usual", "a.safetensors", "b")}
    assert len(modes) == 1


class FailAt:
    """Let the n-th of the system calls that `saving` makes fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, error: int) -> None:
        self.left = number
        for name in CALLS:
            monkeypatch.setattr(saving.os, name, self.wrapped(getattr(os, name), error))

    def wrapped(self, call: Callable[..., Any], error: int) -> Callable[..., Any]:
        def failing(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(error, os.strerror(error))
            return call(*args, **kwargs)

        return failing


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_fault_at_any_system_call(error: int, tmp_path: Path) -> None:
    outcomes, number = [], 0
    while True:
        number += 1
        folder = old_folder(tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patched:
            fault = FailAt(patched, number, error)
            try:
                save_folder(folder, NEW)
                raised = ""
            except DragomanError as failure:
                raised = str(failure)
        if fault.left > 0:
            break
        found = content(folder)
        assert found in (OLD_CONTENT, NEW_CONTENT)
        assert (folder / "logs" / "day").read_bytes() == b"1"
        if "unchanged" in raised:
            assert found == OLD_CONTENT
        if not raised:
            assert found == NEW_CONTENT
        outcomes.append(found == NEW_CONTENT)
        save_folder(folder, NEW)  # and the next save works
        assert content(folder) == NEW_CONTENT
        shutil.rmtree(folder)
    assert 10 < len(outcomes) < 100
    assert outcomes == sorted(outcomes)  # one moment of truth: first old, then new
    assert outcomes[0] is False
    assert outcomes[-1] is True


def test_a_fault_in_the_middle_of_writing(tmp_path: Path) -> None:
    folder = old_folder(tmp_path)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DragomanError, match=r"No space left on device.*; what was there is unchanged. Free some space"):
        save_folder(folder, NEW | {"model.safetensors": full})
    assert content(folder) == OLD_CONTENT
    with pytest.raises(KeyError):
        save_folder(folder, NEW | {"model.safetensors": lambda path: {}[path]})
    assert set(os.listdir(folder)) == {*OLD_CONTENT, "logs"}


KILLED = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from dragoman.checkpoint import saving
    left = int(sys.argv[2])
    def wrapped(call):
        def killing(*args, **kwargs):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return killing
    for name in sys.argv[3].split():
        setattr(os, name, wrapped(getattr(os, name)))
    write = lambda path: path.write_bytes(b"new weights")
    saving.save_folder(sys.argv[1], {"config.json": b"new", "model.safetensors": write})
    print(left)
""")


def killed_at(folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, str(folder), str(number), " ".join(CALLS)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_kill_before_any_system_call(tmp_path: Path) -> None:
    total = 1000 - int(killed_at(old_folder(tmp_path / "counting"), 1000).stdout)
    outcomes = []
    for number in range(1, total + 1):
        folder = old_folder(tmp_path / str(number))
        assert killed_at(folder, number).returncode == -signal.SIGKILL
        found = content(folder)
        assert found in (OLD_CONTENT, NEW_CONTENT)
        outcomes.append(found == NEW_CONTENT)
    assert outcomes == sorted(outcomes)
    assert (outcomes[0], outcomes[-1]) == (False, True)


def test_a_load_finishes_the_save(tmp_path: Path) -> None:
    folder = old_folder(tmp_path)
    pending = folder / ".dragoman-pending"
    pending.mkdir()
    (pending / "model.safetensors").write_bytes(b"new weights")
    (pending / ".files.json").write_text('["config.json", "model.safetensors"]')
    (folder / "config.json").write_bytes(b"new")  # moved before the process died
    assert find_weights(folder).paths == (folder / "model.safetensors",)
    assert content(folder) == NEW_CONTENT
    assert not pending.exists()


@pytest.mark.parametrize("listed", ["../out", "/out", "a/../../out", None, 3, {"a": 1}, [["x"]], "not json"])
def test_an_untrusted_folder_cannot_move_files(listed: Any, tmp_path: Path) -> None:
    folder, pending = tmp_path / "model", tmp_path / "model" / ".dragoman-pending"
    pending.mkdir(parents=True)
    (folder / "out").write_bytes(b"x")
    text = listed if listed == "not json" else json.dumps([listed] if isinstance(listed, str) else listed)
    (pending / ".files.json").write_text(text)
    with pytest.raises(UntrustedFileError):
        finish_save(folder)
    assert not (tmp_path / "out").exists()


def test_two_processes_that_save_at_once_do_not_mix(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys
        from dragoman.checkpoint.saving import save_folder
        for i in range(15):
            save_folder(sys.argv[1], {name: sys.argv[2].encode() for name in sys.argv[3:]})
    """)
    one = ["config.json", "model.safetensors"]
    two = ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    folder = tmp_path / "model"
    commands = [[sys.executable, "-c", code, str(folder), tag, *names] for tag, names in (("1", one), ("2", two))]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    assert [process.communicate(timeout=60)[1] for process in processes] == [b"", b""]
    found = content(folder)
    assert found in (dict.fromkeys(one, b"1"), dict.fromkeys(two, b"2"))


def test_files_of_killed_saves_are_removed_by_the_next_save(tmp_path: Path) -> None:
    folder = old_folder(tmp_path / "model")
    assert killed_at(folder, 4).returncode == -signal.SIGKILL
    assert len(list(folder.glob(".dragoman-saving-*"))) == 1
    save_folder(folder, NEW)
    assert not list(folder.glob(".*"))
    assert content(folder) == NEW_CONTENT


def test_files_of_running_saves_stay(tmp_path: Path) -> None:
    def meanwhile(path: Path) -> None:
        save_folder(tmp_path, {"config.json": b"newer"})
        path.write_bytes(b"weights")

    save_folder(tmp_path, {"model.safetensors": meanwhile})
    assert content(tmp_path) == {"config.json": b"newer", "model.safetensors": b"weights"}
    assert not list(tmp_path.glob(".*"))


def test_without_locks_files_of_killed_saves_are_removed_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    for name, age in (("yesterday", 25), ("today", 1)):
        staging = tmp_path / f".dragoman-saving-{name}"
        staging.mkdir()
        (staging / "model.safetensors").write_bytes(b"x")
        os.utime(staging, (time.time() - age * 3600,) * 2)
    save_folder(tmp_path, NEW)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".dragoman-saving-today"]


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DragomanError, match=r"config.json is a folder, but a file must be written there"):
        save_folder(tmp_path, NEW)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DragomanError, match=r"Saving into .*file failed"):
        save_folder(tmp_path / "file", NEW)
    with pytest.raises(UntrustedFileError, match="plain file names"):
        save_folder(tmp_path, {"../x": b""})


def test_failed_moves_are_explained_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = old_folder(tmp_path)

    def denied(*args: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(saving.os, "replace", denied)
        with pytest.raises(CheckpointError, match=r"is complete but its files cannot be moved into place .Read-only"):
            save_folder(folder, NEW)
    assert content(folder) == NEW_CONTENT
