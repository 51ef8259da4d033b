"""Load `dragoman serve` with clips of speech, check that every answer belongs to its clip, and compare servers.

    python benchmarks/serve_load.py [--folder FOLDER] [--requests 2000] [--concurrency 32] [--model FOLDER_OR_ID] \
        [--systems batching single faster-whisper] [--turns 4] [--json FILE]

The servers run side by side on the same weights and take turns, so that a machine whose speed drifts is fair to all:

    batching          `dragoman serve`
    single            the same, with one window at a time
    faster-whisper    `faster_whisper_server.py`, with the default model (faster-whisper must be installed)

Each answer is compared with what `Transcriber` (or faster-whisper) makes of the same clip by itself. A request that is
refused (429) is sent again, as the official client does, and counts as one. The clips of `recipes/amazon-queen` are
downloaded to FOLDER unless they exist; without FOLDER they are pieces of the shipped sample. Latencies and throughput
are by the wall clock; CPU seconds, of the server and its decoders, depend less on what else the machine does.
`--requests 10000 --concurrency 64` is the large tier. The exit code is 1 if a request was lost or mixed up.
"""

import argparse
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from clips import fetch_rows
from dragoman import Transcriber
from dragoman.checkpoint.default_model import default_model_folder

SAMPLE = Path(__file__).parents[1] / "src/dragoman/testing/data/sample_en.flac"
OTHER = Path(__file__).with_name("faster_whisper_server.py")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--folder", type=Path, help="where the real clips are")
parser.add_argument("--requests", type=int, default=2000, help="requests to each system")
parser.add_argument("--concurrency", type=int, default=32)
parser.add_argument("--clips", type=int, default=64, help="number of different clips")
parser.add_argument("--seed", type=int, default=0, help="picks the clips")
parser.add_argument("--model", help="folder or hub id; the default model if left out")
parser.add_argument("--systems", nargs="+", default=["batching", "single"])
parser.add_argument("--turns", type=int, default=4, help="how often the systems take turns")
parser.add_argument("--threads", type=int, default=1, help="CPU threads of the model")
parser.add_argument("--compute_type", default="float32")
parser.add_argument("--beam_size", type=int, default=5)
parser.add_argument("--max_batch", type=int, default=16)
parser.add_argument("--json", type=Path, help="also write the figures to this file")


def encoded(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """Return samples as a FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    return file.getvalue()


def sample_pieces(count: int, seed: int) -> list[bytes]:
    """Return pieces of 1 to 3 seconds of the shipped sample."""
    samples, rng = soundfile.read(SAMPLE, dtype="float32")[0], np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        length = int(rng.integers(16_000, 48_000))
        start = int(rng.integers(0, len(samples) - length))
        clips.append(encoded(samples[start : start + length]))
    return clips


def make_clips(options: argparse.Namespace) -> list[bytes]:
    """Return files of speech: clips of a few seconds, or pieces of 1 to 3 seconds of the sample."""
    if options.folder is not None:
        rows = [row for row in fetch_rows(options.folder) if len(row["text"].split()) >= 3]
        picked = random.Random(options.seed).sample(rows, options.clips)
        return [(options.folder / row["audio_filepath"]).read_bytes() for row in picked]
    return sample_pieces(options.clips, options.seed)


def of_dragoman(options: argparse.Namespace) -> Callable[[bytes], str]:
    """Return a function from a clip to its text, without a server."""
    offline = Transcriber(options.model, threads=options.threads, compute_type=options.compute_type)
    return lambda clip: offline.transcribe(clip, beam_size=options.beam_size).text


def of_faster_whisper(options: argparse.Namespace) -> Callable[[bytes], str]:
    """Return the same of faster-whisper."""
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(default_model_folder()), device="cpu", cpu_threads=options.threads, compute_type=options.compute_type
    )

    def transcribe(clip: bytes) -> str:
        segments, _ = model.transcribe(io.BytesIO(clip), language="en", beam_size=options.beam_size)
        return "".join(one.text for one in segments).strip()

    return transcribe


def command_of(system: str, options: argparse.Namespace) -> list[str]:
    """Return the command of a server."""
    common = ["--threads", str(options.threads), "--compute_type", options.compute_type]
    if system == "faster-whisper":
        return [sys.executable, str(OTHER), str(default_model_folder()), *common]
    command = [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--preload", *common]
    command += ["--model", f"model={options.model or 'tiny.en'}", "--max_requests", str(2 * options.concurrency)]
    return [*command, "--max_batch", str(1 if system == "single" else options.max_batch)]


class Server:
    """A server process, and what it has answered so far.

    Args:
        command: What starts it.
        expected: The text of each clip.
        fields: Those of each request.
        threads: CPU threads of its model.
        connections: Maximum number of connections to it.
    """

    def __init__(
        self, command: list[str], expected: list[str], fields: dict[str, str], threads: int, connections: int
    ) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        self.log = self.process.stderr
        self.url = next(found[1] for line in self.log if (found := re.search(r"Listening on (\S+)\.\n", line)))
        threading.Thread(target=lambda: list(self.log), daemon=True).start()
        limits = httpx.Limits(max_connections=connections)
        self.client = httpx.Client(base_url=self.url, timeout=600, limits=limits)
        self.expected, self.fields, self.results = expected, fields, list[tuple[float, str]]()
        self.wall_s = self.cpu_s = 0.0

    def ask(self, clips: list[bytes], numbers: range, pool: ThreadPoolExecutor) -> list[tuple[float, str]]:
        """Send requests and return the seconds and the outcome of each."""

        def one(number: int) -> tuple[float, str]:
            place, begin = number % len(clips), time.perf_counter()
            try:
                while True:
                    answer = self.client.post(
                        "/v1/audio/transcriptions", files={"file": ("clip", clips[place])}, data=self.fields
                    )
                    if answer.status_code != 429:
                        break
                    time.sleep(float(answer.headers["retry-after"]))
            except httpx.HTTPError:
                return time.perf_counter() - begin, "lost"
            outcome = "lost"
            if answer.status_code == 200:
                outcome = "right" if answer.json()["text"] == self.expected[place] else "wrong"
            return time.perf_counter() - begin, outcome

        return list(pool.map(one, numbers))

    def take_turn(self, clips: list[bytes], numbers: range, pool: ThreadPoolExecutor) -> None:
        """Send requests that count."""
        wall, cpu = time.perf_counter(), self._cpu_s()
        self.results += self.ask(clips, numbers, pool)
        self.wall_s, self.cpu_s = self.wall_s + time.perf_counter() - wall, self.cpu_s + self._cpu_s() - cpu

    def memory_mb(self) -> float:
        """Return the resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def figures(self) -> dict[str, Any]:
        """Return counts, latencies, throughput, and how many windows were decoded together."""
        latencies, answers = [latency for latency, _ in self.results], self.client.get("/metrics")
        found = {
            **{name: sum(outcome == name for _, outcome in self.results) for name in ("right", "wrong", "lost")},
            "p50_s": round(float(np.percentile(latencies, 50)), 3),
            "p99_s": round(float(np.percentile(latencies, 99)), 3),
            "requests_per_s": round(len(self.results) / self.wall_s, 2),
            "cpu_s_per_request": round(self.cpu_s / len(self.results), 3),
        }
        if answers.status_code == 200:
            counts = dict(line.rsplit(" ", 1) for line in answers.text.splitlines())
            windows, batches = (float(counts[f"dragoman_batch_windows_{one}"]) for one in ("sum", "count"))
            found["windows_per_batch"] = round(windows / batches, 2)
        return found

    def stop(self) -> int:
        """End the server in good order."""
        self.client.close()
        self.process.terminate()
        return self.process.wait(60)

    def _cpu_s(self) -> float:
        """Return the CPU seconds of the process and its children."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(one) for path in tasks for one in path.read_text().split()]
        ticks = 0
        for process in (self.process.pid, *children):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and those of the children that have ended
        return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the servers and print a line for each; 1 if a request was lost or mixed up."""
    options = parser.parse_args()
    clips, texts, servers = make_clips(options), dict[str, list[str]](), dict[str, Server]()
    figures: dict[str, Any] = {}
    try:
        for system in options.systems:
            own = "faster-whisper" if system == "faster-whisper" else "dragoman"
            if own not in texts:
                transcribe = of_faster_whisper(options) if own == "faster-whisper" else of_dragoman(options)
                texts[own] = [transcribe(clip) for clip in clips]
            servers[system] = Server(
                command_of(system, options),
                texts[own],
                {"beam_size": str(options.beam_size)},
                options.threads,
                options.concurrency,
            )
        with ThreadPoolExecutor(options.concurrency) as pool:
            for server in servers.values():
                server.ask(clips, range(2 * options.concurrency), pool)  # warm up
            memory = {system: server.memory_mb() for system, server in servers.items()}
            for turn in range(options.turns):
                first, end = (options.requests * place // options.turns for place in (turn, turn + 1))
                for server in servers.values():
                    server.take_turn(clips, range(first, end), pool)
        for system, server in servers.items():
            figures[system] = {**server.figures(), "memory_growth_mb": round(server.memory_mb() - memory[system], 1)}
    finally:
        codes = {system: server.stop() for system, server in servers.items()}
    for system, found in figures.items():
        found["exit_code"] = codes[system]
        print(f"{system}: {json.dumps(found)}", flush=True)
    figures["different_answers"] = {own: len(set(found)) for own, found in texts.items()}
    print(f"different answers of {len(clips)} clips: {figures['different_answers']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(figures[system]["right"] < options.requests for system in servers))


if __name__ == "__main__":
    sys.exit(main())
