"""Attack `dragoman serve` and measure what it does to normal traffic: latency, lost requests, memory.

    python benchmarks/serve_attacks.py [--model FOLDER_OR_ID] [--seconds 20] [--only NAME ...] [--json FILE]

Two clients send short clips one after the other, for some seconds without an attack and for as long with it, for each
attack in turn; the ratio is that of the 99th percentiles (and of the medians, which a busy machine moves less). The
attacks, those of `ATTACKS`, come from a process of the lowest priority: what they take from the processor themselves is
not what is measured. The exit code is 1 if a normal request failed, an attack was answered with an unknown 5xx, or the
memory of the server grew by more than 512 MiB.
"""

import argparse
import io
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import soundfile

from serve_load import Server, encoded, sample_pieces

AUDIO = "/v1/audio/transcriptions"
_HEAD = f"POST {AUDIO} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'


def connect(url: str) -> socket.socket:
    """Return a connection."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=30)


def slow(url: str) -> None:
    """Hold 1,000 connections that send a byte a second, and never the end of their headers."""
    held = [connect(url) for _ in range(1000)]
    for one in held:
        one.sendall(_HEAD.encode())
    while True:
        for one in list(held):
            try:
                one.sendall(b"a")
            except OSError:
                held.remove(one)
                with suppress(OSError):
                    held.append(connect(url))
        time.sleep(1)


def half_closed(url: str) -> None:
    """Send half a request, and then that nothing more will come."""
    while True:
        with connect(url) as one, suppress(OSError):
            one.sendall(f"{_HEAD}Content-Length: 100000\r\n\r\n".encode() + _PART + bytes(5000))
            one.shutdown(socket.SHUT_WR)
            one.recv(1000)
        time.sleep(0.02)


def reset(url: str) -> None:
    """Reset the connection amid an upload."""
    while True:
        with connect(url) as one, suppress(OSError):
            one.sendall(f"{_HEAD}Content-Length: 1000000\r\n\r\n".encode() + _PART + bytes(50_000))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.02)


def leaving(url: str) -> None:
    """Leave when the answer begins."""
    clip, data = encoded(np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)), {"stream": "true"}
    while True:
        with httpx.stream("POST", url + AUDIO, files={"file": ("a.flac", clip)}, data=data, timeout=60) as answer:
            assert answer.status_code < 500 or answer.status_code == 503
        time.sleep(0.2)


def headers(url: str) -> None:
    """Send 10,000 headers, and one of a megabyte."""
    while True:
        for more in ("".join(f"X-{place}: y\r\n" for place in range(10_000)), f"X: {'y' * 1_000_000}\r\n"):
            with connect(url) as one, suppress(OSError):
                one.sendall((_HEAD + more + "\r\n").encode())
                one.recv(1000)
        time.sleep(0.05)


def parts(url: str) -> None:
    """Send a form of 100,000 fields."""
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    while True:
        _checked(url, field * 100_000 + b"--x--\r\n")
        time.sleep(0.05)


def endless(url: str) -> None:
    """Send chunks without end."""
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    while True:
        with connect(url) as one, suppress(OSError):
            one.sendall(f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + b"55\r\n" + _PART.ljust(85) + b"\r\n")
            while True:
                one.sendall(chunk)
        time.sleep(0.2)


def lengths(url: str) -> None:
    """Announce bodies of a negative, a wrong and a giant length."""
    while True:
        for length in ("-1", "1e9", "99999999999999999999", str(5 << 30), "10\r\nContent-Length: 20"):
            with connect(url) as one, suppress(OSError):
                one.sendall(f"{_HEAD}Content-Length: {length}\r\n\r\n".encode() + _PART)
                one.settimeout(2)
                assert not re.match(rb"HTTP/1.1 5", one.recv(1000))
        time.sleep(0.05)


def bombs(url: str) -> None:
    """Upload eight files at once that are small and promise or hold a lot."""
    silence = bytearray(encoded(np.zeros(8000 * 7300, np.float32), 8000))
    silence[21] &= 0xF0  # the number of samples is not known
    silence[22:26] = bytes(4)
    wave = io.BytesIO()
    soundfile.write(wave, np.zeros(1000), 16_000, format="WAV")
    forged = bytearray(wave.getvalue())
    forged[22:28] = struct.pack("<HI", 65_535, 768_000)
    chunks = b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\x00\x00\x00\x00" * 1_000_000
    archive = b"PK\x03\x04" + bytes(1 << 20)
    nested = encoded(np.zeros(16_000 * 7100, np.float32))  # nearly as long as is allowed
    files = [bytes(silence), bytes(forged), chunks, archive, nested] * 2
    with ThreadPoolExecutor(8) as pool:
        while True:
            list(pool.map(lambda data: _post(url, data), files[:8]))


def _post(url: str, data: bytes) -> None:
    answer = httpx.post(url + AUDIO, files={"file": ("a", data)}, headers={"X-Request-Timeout": "20"}, timeout=120)
    assert answer.status_code < 500 or answer.status_code in (503, 504), answer.text


def _checked(url: str, body: bytes) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(url + AUDIO, content=body, headers=kind, timeout=120)
    assert answer.status_code < 500, answer.text


ATTACKS: dict[str, Callable[[str], None]] = {
    one.__name__: one for one in (slow, half_closed, reset, leaving, headers, parts, endless, lengths, bombs)
}


def _attack(name: str, url: str) -> None:
    os.nice(19)
    ATTACKS[name](url)


class Traffic:
    """Normal traffic: two clients that send clips one after the other.

    Args:
        server: The server.
        clips: What they send.
    """

    def __init__(self, server: Server, clips: list[bytes]) -> None:
        self._server, self._clips, self.failed = server, clips, 0

    def latencies(self, seconds: float) -> list[float]:
        """Return the seconds of each request."""
        end = time.monotonic() + seconds

        def ask(seed: int) -> list[float]:
            found, order = list[float](), random.Random(seed)
            while time.monotonic() < end:
                begin = time.perf_counter()
                files = {"file": ("a.flac", order.choice(self._clips))}
                answer = self._server.client.post(AUDIO, files=files, data={"beam_size": "1"})
                self.failed += answer.status_code != 200
                found.append(time.perf_counter() - begin)
            return found

        with ThreadPoolExecutor(2) as pool:
            return [one for found in pool.map(ask, range(2)) for one in found]


def main() -> int:
    """Run the attacks and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny.en", help="folder or hub id")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    command = [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--threads", "1", "--preload"]
    server = Server([*command, "--model", f"model={options.model}"], [], {}, threads=1, connections=32)
    traffic, figures = Traffic(server, sample_pieces(8, 0)), dict[str, Any]()
    traffic.latencies(5)
    memory, wrong = server.memory_mb(), False
    for name in options.only:
        quiet = traffic.latencies(options.seconds / 2)
        process = get_context("spawn").Process(target=_attack, args=(name, server.url))
        process.start()
        time.sleep(3)
        peak, ended = [server.memory_mb()], threading.Event()

        def watch(peak: list[float] = peak, ended: threading.Event = ended) -> None:
            while not ended.wait(0.2):
                peak.append(server.memory_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        attacked = traffic.latencies(options.seconds)
        ended.set()
        watcher.join()
        lives = process.is_alive()
        process.kill()
        process.join()
        time.sleep(1)
        quiet += traffic.latencies(options.seconds / 2)
        base, under = ([float(np.percentile(found, one)) for one in (50, 99)] for found in (quiet, attacked))
        grown = max(peak) - memory
        figures[name] = {
            "requests": len(attacked),
            "p50_s": [round(base[0], 3), round(under[0], 3)],
            "p99_s": [round(base[1], 3), round(under[1], 3)],
            "ratio_p50": round(under[0] / base[0], 2),
            "ratio_p99": round(under[1] / base[1], 2),
            "memory_mb": round(grown, 1),
        }
        wrong |= not lives or grown > 512
        print(f"{name}: {json.dumps(figures[name])}", flush=True)
    figures["failed"], figures["exit_code"] = traffic.failed, server.stop()
    print(f"normal requests failed: {traffic.failed}; exit code {figures['exit_code']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(wrong or traffic.failed > 0 or figures["exit_code"] != 0)


if __name__ == "__main__":
    sys.exit(main())
