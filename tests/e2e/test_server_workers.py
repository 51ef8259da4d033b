"""Several server processes behind one port: answers, counters, a process that dies, jobs, the end."""

import io
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from serving import Server, running

from dragoman import Transcriber
from dragoman.cli import main

pytestmark = pytest.mark.slow


def workers(server: Server) -> list[int]:
    """Return the processes that serve: children that run `spawn_main`."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def clip(samples: np.ndarray) -> tuple[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="FLAC")
    return "clip.flac", file.getvalue()


def gone(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def post(server: Server, file: tuple[str, bytes]) -> httpx.Response:
    """Post by a connection of its own, so that any process may take it."""
    return httpx.post(f"{server.url}/v1/audio/transcriptions", files={"file": file}, timeout=120)


@pytest.fixture
def two(tiny_checkpoint, tmp_path):
    arguments = ["--model", f"tiny={tiny_checkpoint}", "--preload", "--workers", 2, "--jobs", tmp_path / "jobs"]
    with running(*arguments, "--drain_s", 120) as server:  # a busy machine needs longer than the default
        yield server


def test_both_answer_and_their_counters_are_added_up(two, tiny_checkpoint, sample):
    clips = [clip(sample[4000 * place : 4000 * place + 24_000]) for place in range(12)]
    offline = Transcriber(tiny_checkpoint)
    expected = [offline.transcribe(data).text for _, data in clips]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda file: post(two, file), clips))
    assert [answer.json()["text"] for answer in answers] == expected
    assert len(workers(two)) == 2
    time.sleep(1.5)
    for _ in range(8):  # whichever process answers
        text = httpx.get(f"{two.url}/metrics", timeout=60).text
        assert 'dragoman_responses_total{path="/v1/audio/transcriptions",status="200"} 12\n' in text
        assert "dragoman_models_loaded 2\n" in text
        assert "dragoman_request_seconds_count 12\n" in text


def test_one_that_dies_is_replaced_and_its_job_is_not_lost(two, tiny_checkpoint, sample):
    file = clip(np.tile(sample, 6))
    jobs = [httpx.post(f"{two.url}/v1/jobs", files={"file": one}).json()["id"] for one in (file, clip(sample[:30_000]))]
    wait_until(lambda: answer(two, jobs[0])["status"] == "running")
    before = workers(two)
    for one in before:  # one after the other, so that the port is always served
        os.kill(one, signal.SIGKILL)
        wait_until(lambda gone=one: gone not in workers(two) and len(workers(two)) == 2)
        wait_until(lambda: httpx.get(f"{two.url}/ready", timeout=60).status_code == 200)
    assert set(before).isdisjoint(workers(two))
    wait_until(lambda: [answer(two, job)["status"] for job in jobs] == ["completed", "completed"], 90)
    found = httpx.get(f"{two.url}/v1/jobs/{jobs[0]}/result").json()["text"]
    assert found == Transcriber(tiny_checkpoint).transcribe(file[1]).text
    assert any("Another takes its place" in line for line in two.log)


def answer(server: Server, job: str) -> dict:
    return httpx.get(f"{server.url}/v1/jobs/{job}", timeout=60).json()


def test_sigterm_lets_requests_of_all_finish(two, sample):
    file = clip(np.tile(sample, 2))
    processes = workers(two)
    with ThreadPoolExecutor(6) as pool:
        pending = [pool.submit(post, two, file) for _ in range(6)]
        wait_until(lambda: "dragoman_requests_running 6\n" in httpx.get(f"{two.url}/metrics", timeout=60).text)
        two.process.send_signal(signal.SIGTERM)
        assert [one.result().status_code for one in pending] == [200] * 6
    assert two.process.wait(120) == 0
    assert all(gone(one) for one in processes)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGKILL])
def test_none_outlives_the_process_that_started_them(two, number):
    processes = workers(two)
    assert len(processes) == 2
    two.process.send_signal(number)
    assert two.process.wait(30) == (0 if number == signal.SIGINT else -signal.SIGKILL)
    wait_until(lambda: all(gone(one) for one in processes))


def test_a_model_that_cannot_be_loaded_ends_all(tmp_path):
    with (
        pytest.raises(AssertionError, match="did not start") as caught,
        running("--model", f"none={tmp_path}", "--preload", "--workers", 2),
    ):
        pass
    assert "error" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_port_in_use_is_named(two, capsys):
    port = two.url.rpartition(":")[2]
    assert main(["serve", "--port", port]) == 2
    assert f"Port {port} of 127.0.0.1 cannot be listened on" in capsys.readouterr().err
