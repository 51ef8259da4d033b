"""Kill parts of `dragoman serve` and count what is lost: nothing may be.

    python benchmarks/serve_faults.py [--model FOLDER_OR_ID] [--kills 1000] [--stops 20] [--crashes 20] [--unloads 5] \
        [--json FILE]

    kills     The process that decodes uploads is killed, half of the times amid a long upload. Every other request is
              answered right.
    stops     SIGTERM amid requests at concurrency 16: each is answered right, or refused before it was read (503, no
              connection), or "cut": its connection ended before any answer. The exit code is 0.
    crashes   SIGKILL amid jobs that are submitted, wait and run: in the end each that was acknowledged is completed,
              with the right text.
    unloads   An idle model is unloaded and loaded again, with copied weights: the private memory of the process in MiB
              when it is loaded and afterwards, and which part of what the model took is free again (the first time
              also loads libraries and is left out).

Answers are compared with those of `Transcriber`. A count of 0 leaves a part out. The exit code is 1 if
anything is lost.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from dragoman import Transcriber
from serve_load import Server, encoded, sample_pieces

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="tiny.en", help="folder or hub id")
parser.add_argument("--kills", type=int, default=1000)
parser.add_argument("--stops", type=int, default=20)
parser.add_argument("--crashes", type=int, default=20)
parser.add_argument("--unloads", type=int, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--json", type=Path, help="also write the figures to this file")

AUDIO = "/v1/audio/transcriptions"
FIELDS = {"beam_size": "1"}


class Faults:
    """The parts.

    Args:
        options: Those of the command.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._order = options, random.Random(options.seed)
        self._clips = sample_pieces(8, options.seed)
        offline = Transcriber(options.model, threads=1)
        self._texts = [offline.transcribe(clip, beam_size=1).text for clip in self._clips]

    def kills(self, count: int) -> dict[str, Any]:
        """Kill the decoder."""
        counts = Counter[str]()
        tone = np.sin(np.arange(44_100 * 60) / 20).astype(np.float32)
        long = encoded(tone, 44_100)[:-1000]  # takes a while, and is refused in the end
        one = self._server("--preload", "--decoders", 1)
        with ThreadPoolExecutor(1) as pool:
            for number in range(count):
                pending = pool.submit(self._outcome, one.url, 0, long) if number % 2 else None
                time.sleep(self._order.uniform(0, 0.3) if pending else 0)
                for child in _children(one.process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(child, self._order.choice([signal.SIGKILL, signal.SIGSEGV]))
                        counts["killed"] += 1
                if pending is not None:
                    counts[f"long {pending.result()}"] += 1
                counts[self._outcome(one.url, number % len(self._clips))] += 1
        ready, files = one.client.get("/ready").status_code, len(os.listdir(f"/proc/{one.process.pid}/fd"))
        lost = count - counts["right"]
        return {**counts, "lost": lost, "ready": ready, "open_files": files, "exit_code": one.stop()}

    def stops(self, count: int) -> dict[str, Any]:
        """End the server amid requests."""
        counts = Counter[str]()
        for _ in range(count):
            one, ended = self._server("--preload"), threading.Event()

            def ask(seed: int, one: Server = one, ended: threading.Event = ended) -> list[str]:
                order, found = random.Random(seed), list[str]()
                while not ended.is_set():
                    found.append(self._outcome(one.url, order.randrange(len(self._clips))))
                return found

            with ThreadPoolExecutor(16) as pool:
                pending = [pool.submit(ask, self._order.random()) for _ in range(16)]  # type: ignore[arg-type]
                time.sleep(self._order.uniform(1, 4))
                one.process.terminate()
                time.sleep(0.3)
                ended.set()
                for each in pending:
                    counts.update(each.result())
            counts[f"exit code {one.stop()}"] += 1
        known = ("right", "503", "no connection", "exit code 0")
        return {**counts, "lost": sum(number for name, number in counts.items() if name not in known)}

    def crashes(self, count: int) -> dict[str, Any]:
        """Kill the server amid jobs."""
        known = dict[str, int]()
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(count):
                one = self._server("--jobs", folder)
                crash = threading.Timer(self._order.uniform(0.05, 3), one.process.kill)
                crash.start()
                with suppress(httpx.TransportError):
                    while True:
                        place = self._order.randrange(len(self._clips))
                        answer = one.client.post("/v1/jobs", files={"file": self._clips[place]}, data=FIELDS)
                        known[answer.json()["id"]] = place
                        time.sleep(self._order.uniform(0, 0.5))
                crash.join()
                one.process.wait()
            one = self._server("--jobs", folder)
            while any(job["status"] in ("queued", "running") for job in one.client.get("/v1/jobs").json()["data"]):
                time.sleep(0.5)
            found = {number: one.client.get(f"/v1/jobs/{number}/result") for number in known}
            counts = Counter(
                "right" if answer.status_code == 200 and answer.json()["text"] == self._texts[known[number]] else "lost"
                for number, answer in found.items()
            )
            return {"jobs": len(known), **counts, "lost": counts["lost"], "exit_code": one.stop()}

    def unloads(self, count: int) -> dict[str, Any]:
        """Unload the model and load it again."""
        one, memory, wrong = self._server("--copy_weights", "--unload_after_s", 1), list[tuple[float, float]](), 0
        for _ in range(count):
            wrong += self._outcome(one.url, 0) != "right"
            loaded = _private_mb(one.process.pid)
            while "dragoman_models_loaded 0" not in one.client.get("/metrics").text:
                time.sleep(0.1)
            time.sleep(4)  # until that memory is collected
            memory.append((round(loaded, 1), round(_private_mb(one.process.pid), 1)))
        freed = [round((loaded - after) / (loaded - before), 3) for (_, before), (loaded, after) in pairwise(memory)]
        return {"loaded_and_after_mb": memory, "freed": freed, "lost": wrong, "exit_code": one.stop()}

    def _server(self, *flags: object) -> Server:
        command = [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--threads", "1", *map(str, flags)]
        return Server([*command, "--model", f"model={self._options.model}"], [], {}, threads=1, connections=32)

    def _outcome(self, url: str, place: int, clip: bytes | None = None) -> str:
        """Ask by a connection of its own for the text of a clip, and return the outcome: `right`, or what else."""
        try:
            files = {"file": ("clip", self._clips[place] if clip is None else clip)}
            answer = httpx.post(url + AUDIO, files=files, data=FIELDS, timeout=300)
        except httpx.ConnectError:
            return "no connection"
        except httpx.TransportError:
            return "cut"
        if answer.status_code != 200:
            return str(answer.status_code)
        return "right" if answer.json()["text"] == self._texts[place] else "wrong"


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(one) for path in tasks for one in path.read_text().split()]


def _private_mb(process: int) -> float:
    """Return the memory of a process that no file backs."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024  # type: ignore[index]


def main() -> int:
    """Run the parts and print a line for each; 1 if anything is lost."""
    options = parser.parse_args()
    faults, figures = Faults(options), dict[str, Any]()
    parts: dict[str, Callable[[int], dict[str, Any]]] = {
        "kills": faults.kills,
        "stops": faults.stops,
        "crashes": faults.crashes,
        "unloads": faults.unloads,
    }
    for name, part in parts.items():
        if count := getattr(options, name):
            figures[name] = part(count)
            print(f"{name}: {json.dumps(figures[name])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(found["lost"] for found in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
