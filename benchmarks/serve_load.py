"""Load `dragoman serve` with clips of speech, and check that every answer belongs to its clip.

    python benchmarks/serve_load.py [--requests 2000] [--concurrency 32] [--model FOLDER_OR_ID] [--json FILE]

Two servers run one after the other on the same weights: with batching, and with one window at a time. Each answer is
compared with that of `Transcriber` for the same clip. `--requests 10000 --concurrency 64` is the large tier. A request
that is refused (429) is sent again, as the official client does, and counts as one.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from dragoman import Transcriber

SAMPLE = Path(__file__).parents[1] / "src/dragoman/testing/data/sample_en.flac"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--requests", type=int, default=2000)
parser.add_argument("--concurrency", type=int, default=32)
parser.add_argument("--clips", type=int, default=64, help="number of different clips")
parser.add_argument("--model", help="folder or hub id; the default model if left out")
parser.add_argument("--threads", type=int, default=1, help="CPU threads of the model")
parser.add_argument("--max_batch", type=int, default=16)
parser.add_argument("--json", type=Path, help="also write the figures to this file")


def make_clips(count: int) -> list[bytes]:
    """Return clips of 1 to 3 seconds, each from another place of the sample."""
    samples, rng = soundfile.read(SAMPLE, dtype="float32")[0], np.random.default_rng(0)
    clips = []
    for _ in range(count):
        length = int(rng.integers(16_000, 48_000))
        start = int(rng.integers(0, len(samples) - length))
        file = io.BytesIO()
        soundfile.write(file, samples[start : start + length], 16_000, format="FLAC")
        clips.append(file.getvalue())
    return clips


class Server:
    """A server process."""

    def __init__(self, options: argparse.Namespace, max_batch: int) -> None:
        command = [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--preload", "--threads", options.threads]
        command += ["--max_batch", max_batch, "--max_requests", 2 * options.concurrency]
        command += ["--model", f"model={options.model or 'tiny.en'}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        self.log = self.process.stderr
        self.url = next(found[1] for line in self.log if (found := re.search(r"Listening on (\S+)\.\n", line)))
        threading.Thread(target=lambda: list(self.log), daemon=True).start()

    def memory_mb(self) -> float:
        """Return the resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def stop(self) -> int:
        """End the server in good order."""
        self.process.terminate()
        return self.process.wait(60)


def load(server: Server, clips: list[bytes], expected: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Send all requests and return the figures."""
    client = httpx.Client(base_url=server.url, timeout=600, limits=httpx.Limits(max_connections=options.concurrency))

    def one(number: int) -> tuple[float, str]:
        place, begin = number % len(clips), time.perf_counter()
        while True:
            answer = client.post("/v1/audio/transcriptions", files={"file": ("clip.flac", clips[place])})
            if answer.status_code != 429:
                break
            time.sleep(float(answer.headers["retry-after"]))
        outcome = "lost"
        if answer.status_code == 200:
            outcome = "right" if answer.json()["text"] == expected[place] else "wrong"
        return time.perf_counter() - begin, outcome

    with ThreadPoolExecutor(options.concurrency) as pool:
        list(pool.map(one, range(2 * options.concurrency)))  # warm up
        before, begin = server.memory_mb(), time.perf_counter()
        results = list(pool.map(one, range(options.requests)))
    wall = time.perf_counter() - begin
    counts = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines())
    latencies = [latency for latency, _ in results]
    return {
        **{name: sum(outcome == name for _, outcome in results) for name in ("right", "wrong", "lost")},
        "p50_s": round(float(np.percentile(latencies, 50)), 3),
        "p99_s": round(float(np.percentile(latencies, 99)), 3),
        "requests_per_s": round(options.requests / wall, 2),
        "windows_per_batch": round(
            float(counts["dragoman_batch_windows_sum"]) / float(counts["dragoman_batch_windows_count"]), 2
        ),
        "memory_growth_mb": round(server.memory_mb() - before, 1),
    }


def main() -> int:
    """Run both servers and print a line for each; 1 if a request was lost or mixed up."""
    options = parser.parse_args()
    clips = make_clips(options.clips)
    offline = Transcriber(options.model, threads=options.threads)
    expected = [offline.transcribe(clip).text for clip in clips]
    figures = {"different_answers": len(set(expected))}
    for name, max_batch in (("batching", options.max_batch), ("one at a time", 1)):
        server = Server(options, max_batch)
        try:
            figures[name] = load(server, clips, expected, options)
        finally:
            figures["exit code"] = server.stop()
        print(f"{name}: {json.dumps(figures[name])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(figures[name]["right"] < options.requests for name in ("batching", "one at a time")))


if __name__ == "__main__":
    sys.exit(main())
