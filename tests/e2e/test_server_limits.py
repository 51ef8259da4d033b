"""Limits of the server: keys, sizes, durations, times, clients that are slow or leave, and decoders that die."""

import io
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile
from serving import running

from dragoman.cli import main

KEY = {"Authorization": "Bearer second-key"}


@pytest.fixture(scope="module")
def strict(tiny_checkpoint, tmp_path_factory):
    """A server with keys and low limits."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("first-key\nsecond-key\n")
    limits = ["--max_upload_mb", 1, "--max_seconds", 20, "--max_requests", 2, "--max_batch", 1]
    limits += ["--decode_timeout_s", 5, "--upload_timeout_s", 3, "--decoders", 1]
    with running("--model", f"tiny={tiny_checkpoint}", "--api_key_file", keys, *limits) as server:
        server.client.headers.update(KEY)
        yield server


def encoded(samples: np.ndarray, kind: str = "FLAC", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def open_files(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


@pytest.fixture(scope="module")
def clip(sample) -> bytes:
    return encoded(sample[:24_000])


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer third-key", "Bearer first-ke", "Basic second-key", "é"])
def test_wrong_keys_are_refused(strict, header):
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for path in ("/v1/models", "/v1/audio/transcriptions", "/v1/nothing"):
        answer = httpx.get(strict.url + path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{strict.url}/health").status_code == 200


def test_every_key_of_the_file_opens(strict):
    for key in ("first-key", "second-key"):
        assert httpx.get(f"{strict.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_other_machines_need_a_key(monkeypatch, capsys):
    monkeypatch.delenv("DRAGOMAN_API_KEY", raising=False)
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "needs an API key" in capsys.readouterr().err


def test_pages_of_other_origins_are_refused(strict):
    answer = strict.client.options("/v1/models", headers={"Origin": "https://example.org"})
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'none'" in answer.headers["content-security-policy"]


# --- sizes and durations ----------------------------------------------------------------------------------------------


def test_too_large_a_body_is_cut(strict):
    answer = strict.post(("a.wav", bytes(2 << 20)), model="tiny")
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"

    def endless():
        while True:
            yield bytes(1 << 16)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    with suppress(httpx.TransportError):  # the connection is closed, although the client goes on
        assert strict.client.post("/v1/audio/transcriptions", content=endless(), headers=kind).status_code in (400, 413)
    assert strict.client.get("/health").status_code == 200


def test_a_small_file_of_a_long_recording_is_refused(strict):
    bomb = encoded(np.zeros(16_000 * 3600, dtype=np.float32))
    assert len(bomb) < 1 << 20
    answer = strict.post(("a.flac", bomb), model="tiny")
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "audio_too_long"


@pytest.mark.parametrize(("rate", "channels"), [(655_350, 8), (768_001, 1), (1, 1), (16_000, 65_535), (16_000, 0)])
def test_forged_headers_are_refused(strict, rate, channels):
    head = bytearray(encoded(np.zeros(1000), "WAV"))
    head[22:24] = channels.to_bytes(2, "little")
    head[24:28] = rate.to_bytes(4, "little")
    answer = strict.post(("a.wav", bytes(head)), model="tiny")
    assert answer.status_code in (400, 413, 200)
    assert (answer.status_code == 200) == ((rate, channels) == (655_350, 8))  # which is plain silence of a moment


def test_compressed_bodies_are_refused(strict, clip):
    answer = strict.post(("a.flac", clip), model="tiny", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_many_parts_are_refused(strict, clip):
    files = [("file", ("a.flac", clip))] * 3
    assert strict.client.post("/v1/audio/transcriptions", files=files).status_code == 400
    fields = {f"field{place}": "x" for place in range(500)}
    assert strict.post(("a.flac", clip), **fields).status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"--x", b"--x\r\n\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n--x--", b"--y--", b"\0" * 3000],
)
def test_broken_bodies_are_refused(strict, body):
    answer = strict.client.post(
        "/v1/audio/transcriptions", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


# --- time and load ----------------------------------------------------------------------------------------------------


def test_too_many_requests_are_told_to_come_again(strict, sample):
    audio = encoded(np.tile(sample, 2))
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: strict.post(("a.flac", audio), model="tiny"), range(12)))
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len({answer.json()["text"] for answer in answers if answer.status_code == 200}) == 1
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_a_request_may_set_its_own_time_limit(strict, sample):
    audio = encoded(np.tile(sample, 2))
    answer = strict.post(("a.flac", audio), model="tiny", headers={"X-Request-Timeout": "0.01"})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"
    assert strict.post(("a.flac", audio), headers={"X-Request-Timeout": "soon"}).status_code == 400


def test_an_upload_must_arrive_in_time(strict):
    place = urlsplit(strict.url)
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    )
    with socket.create_connection((place.hostname, place.port)) as slow:
        slow.sendall(head.encode())
        slow.settimeout(20)
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_frees_its_place(strict, sample):
    before = open_files(strict.process.pid)
    audio = encoded(np.tile(sample, 2))
    place = urlsplit(strict.url)
    request = httpx.Request(
        "POST", f"{strict.url}/v1/audio/transcriptions", files={"file": ("a.flac", audio)}, headers=KEY
    )
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join(["POST /v1/audio/transcriptions HTTP/1.1", *lines, "", ""]).encode()
    for _ in range(2):  # all places
        with socket.create_connection((place.hostname, place.port)) as leaving:
            leaving.sendall(head + request.read())
            time.sleep(0.2)
    deadline = time.monotonic() + 10
    while "dragoman_requests_running 0" not in strict.client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert strict.post(("a.flac", audio), model="tiny").status_code == 200
    assert open_files(strict.process.pid) <= before + 3


# --- decoders ---------------------------------------------------------------------------------------------------------


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()] + [
        int(word)
        for task in Path(f"/proc/{process}/task").iterdir()
        if task.name != str(process)
        for word in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_dies_between_requests_costs_none(strict, clip, number):
    assert strict.post(("a.flac", clip), model="tiny").status_code == 200
    (child,) = children(strict.process.pid)
    os.kill(child, number)
    assert strict.post(("a.flac", clip), model="tiny").status_code == 200
    assert children(strict.process.pid) != [child]


def test_a_decoder_knows_no_keys(strict, clip):
    assert strict.post(("a.flac", clip), model="tiny").status_code == 200
    (child,) = children(strict.process.pid)
    names = {line.partition("=")[0] for line in Path(f"/proc/{child}/environ").read_text().split("\0")}
    assert "DRAGOMAN_API_KEY" not in names
    assert "HOME" not in names
    limits = Path(f"/proc/{child}/limits").read_text()
    assert f"{2048 << 20}" in limits


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_requests_that_outlast_the_end_are_told_so(tiny_checkpoint, sample):
    arguments = ["--model", f"tiny={tiny_checkpoint}", "--preload", "--drain_s", 0]
    with running(*arguments) as server, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(server.post, ("a.flac", encoded(np.tile(sample, 20))), model="tiny")
        while "dragoman_requests_running 1" not in server.client.get("/metrics").text:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        answer = pending.result()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["error"]["code"] == "shutting_down"
        assert server.process.wait(30) == 0
        assert "Traceback" not in "".join(server.log)


@pytest.mark.slow
def test_sigterm_lets_requests_finish(tiny_checkpoint, sample):
    audio = encoded(np.tile(sample, 2))
    with running("--model", f"tiny={tiny_checkpoint}", "--preload") as server, ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(server.post, ("a.flac", audio), model="tiny") for _ in range(4)]
        while "dragoman_requests_running 4" not in server.client.get("/metrics").text:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert [one.result().status_code for one in pending] == [200] * 4
        assert server.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
