"""`dragoman bulk` as users run it: processes that are killed, disks that fill, runs that share an output."""

import hashlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import soundfile

DOCS = Path(__file__).parents[2] / "docs"
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


def page_commands(page="bulk.md"):
    """Return the commands of a page, those of scripts included, each in one line."""
    text = (DOCS / page).read_text()
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.removeprefix("$ ").split()) for line in lines if not line.startswith("#")]


def page_command(start):
    """Return the words of the only command of the page that starts so, for this Python."""
    (found,) = [line for line in page_commands() if line.startswith(start)]
    return [*PROGRAM, *shlex.split(found)[1:]] if start.startswith("dragoman") else shlex.split(found)


@pytest.fixture
def project(archive, tmp_path, monkeypatch):
    """A working directory with the manifest that the page names."""
    rows = [{"id": f"clip {n}", "audio": str(archive / f"clips/{n:02}.wav")} for n in range(20)]
    write_manifest(tmp_path / "talks.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def rows_in(out):
    return [json.loads(line) for path in sorted(out.glob("part-*")) for line in path.read_text().splitlines()]


def status(out):
    done = subprocess.run([*PROGRAM, "bulk", "status", out, "--json"], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def lines_of(screen):
    """Yield what a process writes to its terminal, until it ends."""
    with suppress(OSError):
        while content := os.read(screen, 1 << 16):
            yield content.decode(errors="replace")


def test_both_pages_have_the_same_commands():
    assert page_commands() == page_commands("ar/bulk.md")


def test_every_clip_once_as_transcribed(project, texts, tiny_checkpoint):
    given = ["--model", tiny_checkpoint, *QUICK, "--items_per_part", "4", "--price_per_hour", "2"]
    first = [*page_command("dragoman bulk talks.jsonl -o transcripts/ --workers 2"), *given]
    screen, terminal = pty.openpty()
    running = subprocess.Popen(first, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    shown = "".join(lines_of(screen))
    told = running.communicate()[0]
    assert running.returncode == 0
    assert "hours of audio, real-time factor" in shown
    assert "20 of 20 items are done, 0 failed" in told
    assert "real-time factor" in told
    assert "cost" in told
    out = project / "transcripts"
    rows = rows_in(out)
    assert [(row["id"], row["text"]) for row in rows] == [(f"clip {n}", text) for n, text in enumerate(texts)]
    finished = [json.loads(line) for line in (out / "finished.jsonl").read_text().splitlines()]
    assert [hashlib.sha256((out / one["file"]).read_bytes()).hexdigest() for one in finished] == [
        one["sha256"] for one in finished
    ]
    asked = subprocess.run(page_command("dragoman bulk status"), capture_output=True, text=True, check=True)
    assert "20 of 20 items are done, 0 failed; 5 of 5 parts" in asked.stdout
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    again = subprocess.run(first, capture_output=True, text=True, check=True)
    assert again.stderr == ""
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


@pytest.mark.nightly
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
def test_job_arrays_share_an_output(project, texts, tiny_checkpoint):
    (script,) = re.findall(r"^```sh\n(#!.*?)^```$", (DOCS / "bulk.md").read_text(), re.MULTILINE | re.DOTALL)
    options = shlex.join(map(str, ("--model", tiny_checkpoint, *QUICK, "--items_per_part", 3)))
    (project / "array.sh").write_text(f"{script.rstrip()} {options}\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    tasks = [
        subprocess.Popen(
            ["sh", "array.sh"],
            env={**os.environ, "PATH": path, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "3"},
        )
        for task in (1, 2, 3)
    ]
    assert [one.wait() for one in tasks] == [0, 0, 0]
    out = project / "transcripts"
    assert [row["text"] for row in rows_in(out)] == texts
    assert len(list(out.glob("finished-*-of-00003.jsonl"))) == 3
    assert status(out)["finished_parts"] == 7


@pytest.mark.nightly  # half a minute; `benchmarks/bulk.py kill` does more
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


@pytest.fixture
def bucket(archive, monkeypatch):
    """A bucket with the clips in `talks`, in a server that speaks S3's protocol; the file system of it."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    files = s3fs.S3FileSystem()
    files.mkdir("bucket")
    files.put(str(archive / "clips"), "bucket/talks", recursive=True)
    yield files
    server.stop()


def texts_of(files, folder):
    """Return the texts of an output in a bucket, by the number of the clip."""
    rows = [json.loads(line) for part in files.glob(f"{folder}/part-*") for line in files.cat(part).splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == 20
    return [row["text"] for row in sorted(rows, key=lambda row: row["id"])]


@pytest.mark.slow
def test_recordings_and_results_in_a_bucket(bucket, texts, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # for journals
    options = ("--items_per_part", 7)
    done = bulk("s3://bucket/talks/", "s3://bucket/texts", tiny_checkpoint, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert texts_of(bucket, "bucket/texts") == texts
    assert status("s3://bucket/texts")["finished_parts"] == 3
    bucket.rm("bucket/texts/part-000001.jsonl")
    again = bulk("s3://bucket/talks/", "s3://bucket/texts", tiny_checkpoint, *options)
    assert "7 in this run" in again.stdout
    assert texts_of(bucket, "bucket/texts") == texts


@pytest.mark.nightly  # Ray's processes need a minute to start and a gigabyte of memory
def test_commands_of_the_page_for_ray(project, bucket, texts, tiny_checkpoint, monkeypatch):
    pytest.importorskip("ray.dashboard.modules.job.sdk", reason="ray[default] is not installed")
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    options = list(map(str, ("--model", tiny_checkpoint, *QUICK, "--items_per_part", 7, "--workers", 1)))
    port = ["--num-cpus", "3", "--port", "6397", "--dashboard-port", "8297", "--disable-usage-stats"]
    node = subprocess.Popen([*page_command("ray start --head"), "--block", *port])
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8297")
    try:
        submit = page_command("ray job submit")
        wait_for(lambda: subprocess.run(["ray", "job", "list"], capture_output=True, check=False).returncode == 0)
        subprocess.run([*submit, *options], check=True)
        assert texts_of(bucket, "bucket/texts") == texts
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6397")
        words = page_command("dragoman bulk talks.jsonl -o transcripts/ --runner ray")
        done = subprocess.run([*words, *options], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert [row["text"] for row in rows_in(project / "transcripts")] == texts
    finally:
        node.terminate()
        node.wait()
