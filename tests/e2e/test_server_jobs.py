"""Jobs: submitted, followed, fetched, cancelled, and not lost when the server is killed."""

import io
import resource
import stat
import time

import numpy as np
import pytest
import soundfile
from serving import Server, running

from dragoman import Transcriber
from dragoman.server.jobs import Jobs
from dragoman.transcriber import render
from dragoman.transcriber.layout import Layout


def encoded(samples: np.ndarray) -> tuple[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="FLAC")
    return "clip.flac", file.getvalue()


def submit(server: Server, file: tuple[str, bytes], **fields: str) -> str:
    answer = server.client.post("/v1/jobs", files={"file": file}, data={"model": "tiny", **fields})
    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    return answer.json()["id"]


def finished(server: Server, job: str) -> dict:
    end = time.monotonic() + 90
    while (described := server.client.get(f"/v1/jobs/{job}").json())["status"] in ("queued", "running"):
        assert time.monotonic() < end
        time.sleep(0.1)
    return described


def test_a_job_gives_the_offline_answer_in_its_format(server, tiny_checkpoint, sample):
    file = encoded(sample[:60_000])
    job = submit(server, file, response_format="srt")
    assert finished(server, job) | {"created_at": 0, "changed_at": 0} == {
        "object": "job",
        "id": job,
        "name": "clip.flac",
        "task": "transcribe",
        "progress": 1.0,
        "status": "completed",
        "created_at": 0,
        "changed_at": 0,
    }
    answer = server.client.get(f"/v1/jobs/{job}/result")
    assert answer.headers["content-type"].startswith("application/x-subrip")
    expected = Transcriber(tiny_checkpoint).transcribe(file[1], word_timestamps=True)
    assert answer.text == render(expected, "srt", Layout())
    assert job in [one["id"] for one in server.client.get("/v1/jobs").json()["data"]]
    assert server.client.delete(f"/v1/jobs/{job}").json()["deleted"] is True
    for path in (job, f"{job}/result"):
        assert server.client.get(f"/v1/jobs/{path}").status_code == 404


def test_a_failed_job_says_why(server):
    job = submit(server, ("clip.flac", b"no audio at all"))
    described = finished(server, job)
    assert described["status"] == "failed"
    assert described["error"]["code"] == "invalid_audio"
    assert described["error"]["message"].startswith("clip.flac is ")
    answer = server.client.get(f"/v1/jobs/{job}/result")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_failed")


def test_a_cancelled_job_is_gone(server, sample):
    long = submit(server, encoded(np.tile(sample, 8)))
    waiting = submit(server, encoded(sample[:20_000]))
    assert server.client.get(f"/v1/jobs/{waiting}/result").json()["error"]["code"] == "job_queued"
    for job in (long, waiting):
        assert server.client.delete(f"/v1/jobs/{job}").status_code == 200
    last = submit(server, encoded(sample[:20_000]))
    assert finished(server, last)["status"] == "completed"


def test_wrong_jobs_are_refused(server, sample):
    file = encoded(sample[:8000])
    for fields, status in (({"task": "sing"}, 400), ({"model": "none"}, 404), ({"temperature": "x"}, 400)):
        answer = server.client.post("/v1/jobs", files={"file": file}, data=fields)
        assert answer.status_code == status
    assert server.client.get("/v1/jobs/job_none").status_code == 404
    assert server.client.delete("/v1/jobs/job_none").status_code == 404


@pytest.mark.slow
def test_no_job_is_lost_when_the_server_is_killed(tiny_checkpoint, sample, tmp_path):
    arguments = ["--model", f"tiny={tiny_checkpoint}", "--jobs", tmp_path / "jobs"]
    clips = [encoded(np.tile(sample, 2)), *(encoded(sample[8000 * i : 8000 * i + 32_000]) for i in range(5))]
    jobs: list[str] = []
    with running(*arguments) as server:
        jobs += [submit(server, clip) for clip in clips]
        while server.client.get(f"/v1/jobs/{jobs[0]}").json()["status"] == "queued":
            time.sleep(0.05)
        server.process.kill()
        server.process.wait()
    uploads = list((tmp_path / "jobs").glob("*.upload"))
    assert len(uploads) >= 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in uploads} == {0o600}
    stray = tmp_path / "jobs" / "job_stray.upload"
    stray.write_bytes(b"x")
    with running(*arguments) as server:
        assert [finished(server, job)["status"] for job in jobs] == ["completed"] * len(jobs)
        found = [server.client.get(f"/v1/jobs/{job}/result").json()["text"] for job in jobs]
        assert server.stop() == 0
    offline = Transcriber(tiny_checkpoint)
    assert found == [offline.transcribe(clip).text for _, clip in clips]
    assert list((tmp_path / "jobs").glob("*.upload")) == []


def test_a_job_that_the_server_dies_of_is_given_up_and_hinders_no_other(tmp_path):
    jobs = Jobs(tmp_path, 1, 10)
    poison, other = (jobs.add(io.BytesIO(b"x"), name, "transcribe", {})["id"] for name in ("a", "b"))
    assert jobs.next()["id"] == poison
    jobs.release()  # an end in good order does not count
    deaths = 0
    while (job := jobs.next()) is not None:
        if job["id"] == other:
            jobs.complete(other, "text", "text/plain")
            assert deaths == 1
        else:
            deaths += 1
            jobs.close()
            jobs = Jobs(tmp_path, 1, 10)
            jobs.recover()
    assert (deaths, jobs.get(poison)["status"], jobs.get(poison)["error"]["code"]) == (10, "failed", "given_up")
    assert list(tmp_path.glob("*.upload")) == []
    jobs.close()


@pytest.mark.slow
def test_a_full_disk_is_named_and_leaves_nothing(tiny_checkpoint, sample, tmp_path):
    """Files of this server may have 1.5 MB: an upload of more is written to the disk before it is decoded."""
    large = np.random.default_rng(0).normal(0, 0.3, 1_500_000).astype(np.float32)
    with running("--model", f"tiny={tiny_checkpoint}", "--jobs", tmp_path / "jobs") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
        for path in ("/v1/audio/transcriptions", "/v1/jobs"):
            answer = server.client.post(path, files={"file": encoded(large)})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_full")
        assert finished(server, submit(server, encoded(sample[:20_000])))["status"] == "completed"
    assert list((tmp_path / "jobs").glob("*.upload")) == []
