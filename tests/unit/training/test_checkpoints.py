"""Checkpoints are there whole or not at all; guards."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman import CheckpointError, DragomanError
from dragoman.training.checkpoints import checkpoints, fault_of, newest_checkpoint, save_checkpoint
from dragoman.training.guards import Watch


def write(content: bytes) -> Any:
    return lambda path: path.write_bytes(content)


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(folder, step, {"step": step}, {"w": write(b"w" * 1000), "o": write(b"o" * step)}, keep)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 9, 20):
        save(tmp_path, step)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-20", "checkpoint-10"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-20"}


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "list", "state"])
def test_damage_is_noticed(tmp_path: Path, harm: str, caplog: Any) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    path = newest / {"list": "files.json", "state": "state.json"}.get(harm, "w")
    if harm == "remove":
        path.unlink()
    elif harm == "flip":
        path.write_bytes(b"v" + path.read_bytes()[1:])
    else:
        path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING, "dragoman"):
        assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    assert "checkpoint-2 is damaged" in caplog.text


def test_all_damaged_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    (save(tmp_path, 1) / "w").unlink()
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        newest_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DragomanError, match=r"No space left on device.*unchanged"):
        save_checkpoint(tmp_path, 2, {}, {"w": full}, 2)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


SAVER = """
import sys
from pathlib import Path
from dragoman.training.checkpoints import save_checkpoint
folder, step = Path(sys.argv[1]), int(sys.argv[2])
while True:
    content = bytes([step % 251]) * 3_000_000
    save_checkpoint(folder, step, {"step": step}, {n: lambda p: p.write_bytes(content) for n in "ab"}, 2)
    step += 1
    print(step, flush=True)
"""


def test_a_save_that_is_killed_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """`kill -9` at random instants of saves in a row."""
    random, step = np.random.default_rng(0), 1
    for _ in range(12):
        command = [sys.executable, "-c", SAVER, str(tmp_path), str(step)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.communicate()
        newest = newest_checkpoint(tmp_path)
        assert newest is not None
        assert [fault_of(path) for path in checkpoints(tmp_path)] == [None] * len(checkpoints(tmp_path))
        step = int(newest.name.removeprefix("checkpoint-")) + 1
    assert step > 12


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DragomanError, match="cannot be written"):
        save(tmp_path, 1)


def see(watch: Watch, losses: list[float]) -> None:
    for loss in losses:
        watch.see(loss, loss != loss)


def test_a_loss_that_rises_stops_the_run() -> None:
    watch = Watch(3.0, 10)
    for step in range(100):
        watch.see(4.0 - step / 30, False)
    again = Watch(3.0, 10)
    again.restore(watch.state())
    assert again == watch
    with pytest.raises(DragomanError, match="the loss has risen"):
        see(again, [2.0 + step / 10 for step in range(100)])
    calm = Watch(0.0, 10)
    for step in range(100):
        calm.see(float(step), False)


def test_a_small_loss_may_vary() -> None:
    watch = Watch(3.0, 10)
    for loss in [*np.linspace(4, 0.001, 200), *np.linspace(0.001, 0.5, 50)]:
        watch.see(float(loss), False)


def test_nan_steps_in_a_row_stop_the_run() -> None:
    watch = Watch(3.0, 3)
    for _ in range(5):
        watch.see(float("nan"), True)
        watch.see(1.0, False)
    with pytest.raises(DragomanError, match="3 steps in a row"):
        see(watch, [float("nan")] * 3)
