"""Hostile clients: requests that schemathesis makes from the OpenAPI document, and too many or slow connections."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serving import running

pytestmark = pytest.mark.slow


def test_no_request_made_from_the_document_breaks_the_server(server, tmp_path):
    checks = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json", "--checks", checks]
    limits = ["--max-examples", "15", "--request-timeout", "60", "--seed", "1", "--no-color"]
    done = subprocess.run([*map(str, command), *limits], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 300
    assert server.client.get("/ready").status_code == 200


def memory_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def test_slow_connections_are_closed_and_hinder_nobody(tiny_checkpoint, sample_path):
    """Three hundred connections that send a byte at a time, and never the end of their headers."""
    with running("--model", f"tiny={tiny_checkpoint}", "--preload", "--max_connections", 350) as server:
        file = ("a.flac", sample_path.read_bytes())
        assert server.post(file).status_code == 200
        before, place = memory_mb(server.process.pid), urlsplit(server.url)
        slow = [socket.create_connection((place.hostname, place.port)) for _ in range(300)]
        for one in slow:
            one.sendall(b"POST /v1/audio/transcriptions HTTP/1.1\r\nX-A: ")
        begin = time.monotonic()
        open_ones = list(slow)
        while open_ones:
            assert time.monotonic() - begin < 40
            for one in list(open_ones):
                try:
                    one.sendall(b"a")
                except OSError:
                    open_ones.remove(one)
            assert server.client.get("/health").elapsed.total_seconds() < 5
            time.sleep(0.5)
        assert server.post(file).status_code == 200
        assert memory_mb(server.process.pid) - before < 64
        for one in slow:
            one.close()


def test_more_connections_than_the_limit_are_closed(tiny_checkpoint):
    with running("--model", f"tiny={tiny_checkpoint}", "--max_connections", 5) as server:
        place = urlsplit(server.url)
        held = [socket.create_connection((place.hostname, place.port)) for _ in range(5)]
        time.sleep(1)
        with socket.create_connection((place.hostname, place.port), timeout=10) as further:
            try:
                further.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert further.recv(10) == b""
            except ConnectionError:
                pass
        held.pop().close()
        time.sleep(1)
        assert server.client.get("/health").status_code == 200
        for one in held:
            one.close()
