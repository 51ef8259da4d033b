"""`dragoman bulk` as users run it: processes that are killed, disks that fill, runs that share an output."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

PROGRAM = [sys.executable, "-m", "dragoman"]
QUICK = ("--beam_size", "2", "--no_vad_filter", "--temperature", "0", "--threads", "1")


@pytest.fixture(scope="module")
def archive(tmp_path_factory, sample):
    """A folder of twenty clips of one to three seconds, and a manifest of them; read only."""
    root = tmp_path_factory.mktemp("archive")
    (root / "clips").mkdir()
    rows = []
    for number in range(20):
        name = f"clips/{number:02}.wav"
        soundfile.write(root / name, sample[4000 * number :][: 16_000 + 1600 * number], 16_000)
        rows.append({"id": f"clip {number}", "audio": name})
    write_manifest(root / "clips.jsonl", rows)
    return root


def write_manifest(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def texts(archive, tiny_checkpoint, tmp_path_factory):
    """What `dragoman transcribe` makes of each clip, by its number."""
    folder = tmp_path_factory.mktemp("transcripts")
    options = ["--model", tiny_checkpoint, "-f", "json", "-o", folder, *QUICK]
    subprocess.run([*PROGRAM, "transcribe", archive / "clips", *options], check=True)
    return [json.loads((folder / f"{n:02}.json").read_text())["text"] for n in range(20)]


def command(source, out, model, *options):
    words = [*PROGRAM, "bulk", source, "-o", out, "--model", model, "--workers", "2", *QUICK, *options]
    return {"args": list(map(str, words)), "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}


def bulk(*given):
    return subprocess.run(**command(*given), capture_output=True, check=False)


def rows_in(out):
    return [json.loads(line) for path in sorted(out.glob("part-*")) for line in path.read_text().splitlines()]


def status(out):
    done = subprocess.run([*PROGRAM, "bulk", "status", out, "--json"], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def test_every_clip_once_as_transcribed(archive, texts, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    done = bulk(archive / "clips.jsonl", out, tiny_checkpoint, "--items_per_part", 4, "--price_per_hour", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 of 20 items are done, 0 failed" in done.stdout
    assert "real-time factor" in done.stdout
    assert "cost" in done.stdout
    rows = rows_in(out)
    assert [(row["id"], row["text"]) for row in rows] == [(f"clip {n}", text) for n, text in enumerate(texts)]
    finished = [json.loads(line) for line in (out / "finished.jsonl").read_text().splitlines()]
    assert [hashlib.sha256((out / one["file"]).read_bytes()).hexdigest() for one in finished] == [
        one["sha256"] for one in finished
    ]
    told = status(out)
    assert (told["items"], told["done"], told["failed"], told["finished_parts"]) == (20, 20, 0, 5)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    again = bulk(archive / "clips.jsonl", out, tiny_checkpoint)
    assert again.returncode == 0
    assert "0 in this run" in again.stdout
    assert before == {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}


def children(pid):
    """Return the worker processes of a driver."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for task in tasks for child in task.read_text().split()]
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def journals(out):
    return b"".join(path.read_bytes() for path in (out / "_bulk/journals").glob("*"))


def writers(out):
    """Return the processes that have written a row of a part in progress."""
    files = (path for path in (out / "_bulk/journals").glob("*") if b'"row"' in path.read_bytes())
    return {int(path.name.split(".")[1].split("-")[0]) for path in files}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_workers_and_driver_are_killed(archive, texts, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    copies = [
        {"id": f"{copy} {number}", "audio": str(archive / f"clips/{number:02}.wav")}
        for copy in range(10)
        for number in range(20)
    ]
    write_manifest(tmp_path / "m.jsonl", copies)
    options = ("--items_per_part", 50, "--batch_size", 1)
    driver = subprocess.Popen(**command(tmp_path / "m.jsonl", out, tiny_checkpoint, *options), stderr=subprocess.PIPE)
    wait_for(lambda: journals(out).count(b'"row"') > 3)
    first = children(driver.pid)
    for worker in first:
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: writers(out) - set(first))
    workers = children(driver.pid)
    driver.kill()
    assert "killed by signal 9; another goes on" in driver.communicate()[1]
    assert driver.returncode == -9
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))  # no orphans
    assert 0 < status(out)["done"] < 200
    done = bulk(tmp_path / "m.jsonl", out, tiny_checkpoint, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split("; ")[1].split(" in this run")[0]) < 200
    rows = rows_in(out)
    assert [(row["id"], row["text"]) for row in rows] == [
        (one["id"], texts[int(one["id"].split()[1])]) for one in copies
    ]
    assert not journals(out)


@pytest.mark.slow
def test_bad_items_are_counted_and_can_be_mended(archive, texts, tiny_checkpoint, tmp_path):
    shutil.copytree(archive, tmp_path / "in")
    source, out = tmp_path / "in/clips.jsonl", tmp_path / "out"
    lines = source.read_text().splitlines()
    lines[3] = lines[3][:-4]
    source.write_text("\n".join(lines))
    (tmp_path / "in/clips/05.wav").rename(tmp_path / "05.wav")
    stopped = bulk(source, out, tiny_checkpoint)
    assert stopped.returncode == 5
    assert "2 of 20 items failed, more than the limit of 5.0%" in stopped.stderr
    done = bulk(source, out, tiny_checkpoint, "--max_bad_fraction", "0.2")
    assert done.returncode == 1
    assert "2 of 20 items failed" in done.stderr
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert ["malformed line" in failures[1]["error"], "No such file" in failures[0]["error"]] == [True, True]
    assert len(rows_in(out)) == 20
    (tmp_path / "05.wav").rename(tmp_path / "in/clips/05.wav")
    shutil.copy(archive / "clips.jsonl", source)
    done = bulk(source, out, tiny_checkpoint, "--retry_failed")
    assert (done.returncode, done.stderr) == (0, "")
    assert {row["id"]: row["text"] for row in rows_in(out)} == {f"clip {n}": text for n, text in enumerate(texts)}
    assert len(rows_in(out)) == 20


def test_other_options_are_refused_and_outputs_named(archive, tiny_checkpoint, tmp_path):
    (tmp_path / "file").touch()
    done = bulk(archive / "clips.jsonl", tmp_path / "file/out", tiny_checkpoint)
    assert done.returncode == 2
    assert "cannot be written to" in done.stderr
    done = bulk(archive / "none.jsonl", tmp_path / "out", tiny_checkpoint)
    assert done.returncode == 3
    assert "there is no such file" in done.stderr
    done = bulk(archive / "clips.jsonl", tmp_path / "out", tmp_path / "no-model")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    done = bulk(archive / "clips.jsonl", tmp_path / "out", tiny_checkpoint)
    assert done.returncode == 2
    assert "results of other options: model" in done.stderr


SMALL_DISK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
runpy.run_module("dragoman", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_loses_nothing(archive, texts, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    given = command(archive / "clips.jsonl", out, tiny_checkpoint)
    given["args"][1:3] = ["-c", SMALL_DISK]  # instead of -m dragoman
    full = subprocess.run(**given, capture_output=True, check=False)
    assert full.returncode == 1
    assert "cannot be written" in full.stderr
    assert "the same command again" in full.stderr
    assert rows_in(out) == []
    done = bulk(archive / "clips.jsonl", out, tiny_checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["text"] for row in rows_in(out)] == texts


@pytest.mark.slow
def test_independent_runs_share_an_output(archive, texts, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    running = [
        subprocess.Popen(
            **command(archive / "clips.jsonl", out, tiny_checkpoint, "--items_per_part", 3, "--shard", shard)
        )
        for shard in ("1/3", "2/3", "3/3")
    ]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert [row["text"] for row in rows_in(out)] == texts
    assert len(list(out.glob("finished-*-of-00003.jsonl"))) == 3
    assert status(out)["finished_parts"] == 7


@pytest.mark.slow
def test_a_recording_that_kills_workers_is_given_up(archive, texts, sample, tiny_checkpoint, tmp_path):
    out = tmp_path / "out"
    soundfile.write(tmp_path / "long.wav", list(sample) * 200, 16_000)
    rows = [{"id": f"{n}", "audio": str(archive / f"clips/{n:02}.wav")} for n in range(20)]
    write_manifest(tmp_path / "m.jsonl", [*rows, {"id": "long", "audio": str(tmp_path / "long.wav")}])
    options = ("--batch_size", 1, "--workers", 1)
    driver = subprocess.Popen(**command(tmp_path / "m.jsonl", out, tiny_checkpoint, *options))
    seen = set()

    def kill_like_the_kernel():
        for path in (out / "_bulk/journals").glob("*"):
            if path.name not in seen and b'"begin": "long"' in path.read_bytes():
                seen.add(path.name)
                os.kill(int(path.name.split(".")[1].split("-")[0]), signal.SIGKILL)
        return driver.poll() is not None

    wait_for(kill_like_the_kernel, 300)
    assert driver.returncode == 1
    assert len(seen) == 5
    (bad,) = [row for row in rows_in(out) if row["error"]]
    assert bad["id"] == "long"
    assert "5 workers were killed" in bad["error"]
    assert [row["text"] for row in rows_in(out)][:20] == texts
