"""Kill workers and drivers of `dragoman bulk` with SIGKILL at random, and compare every text with the Transcriber's.

    python benchmarks/bulk.py MANIFEST OUT --model MODEL --runner ray --kills 20 --driver_kills 2

Clips are fetched by `recipes/amazon-queen/clips.py`. For two nodes of Ray on one machine, start both before, with one
RAY_AUTH_TOKEN: `ray start --head --num-cpus 1`, then `ray start --address HOST:6379 --num-cpus 1`.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

OPTIONS = {"beam_size": 1, "temperature": 0.0, "vad_filter": False}
FLAGS = ["--beam_size", "1", "--temperature", "0", "--no_vad_filter", "--threads", "1"]


def workers_of(out: Path) -> list[int]:
    """Return the processes on this machine that are at work on a part."""
    found = {int(path.name.split(".")[1].split("-")[0]) for path in (out / "_bulk/journals").glob("*")}
    return sorted(process for process in found if Path(f"/proc/{process}").exists())


def done_in(out: Path) -> int:
    finished = [json.loads(line)["items"] for path in out.glob("finished*") for line in path.read_text().splitlines()]
    journals = (path.read_bytes().count(b'{"row"') for path in (out / "_bulk/journals").glob("*"))
    return sum(finished) + sum(journals)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--runner", default="local")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--items_per_part", default="50")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--driver_kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.manifest.read_text().splitlines()]
    total, order = len(rows), random.Random(given.seed)
    points = sorted([(order.uniform(0, 0.9), "worker") for _ in range(given.kills)]
                    + [(order.uniform(0.2, 0.8), "driver") for _ in range(given.driver_kills)])  # fmt: skip
    words = [sys.executable, "-m", "dragoman", "bulk", str(given.manifest), "-o", str(given.out), *FLAGS]
    words += ["--runner", given.runner, "--workers", given.workers, "--items_per_part", given.items_per_part]
    words += [] if given.model is None else ["--model", given.model]
    begin, killed = time.perf_counter(), Counter()
    driver = subprocess.Popen(words)
    while driver.poll() is None or driver.returncode == -signal.SIGKILL:
        if driver.poll() is not None:
            driver = subprocess.Popen(words)
        if points and done_in(given.out) >= points[0][0] * total:
            workers = workers_of(given.out)
            if points[0][1] == "driver":
                driver.kill()
                driver.wait()
            elif workers:
                os.kill(order.choice(workers), signal.SIGKILL)
            if points[0][1] == "driver" or workers:
                killed[points.pop(0)[1]] += 1
        time.sleep(0.2)
    seconds = time.perf_counter() - begin
    found = [json.loads(line) for path in given.out.glob("part-*") for line in path.read_text().splitlines()]
    counts = Counter(row["id"] for row in found)
    from dragoman.transcriber.transcriber import Transcriber

    transcriber = Transcriber(given.model, threads=1)
    texts = {
        row["id"]: transcriber.transcribe(given.manifest.parent / row["audio_filepath"], **OPTIONS).text for row in rows
    }
    print(f"{total} clips in {seconds:.0f} s, exit code {driver.returncode}; killed: {dict(killed)}")
    print(f"rows {len(found)}, ids once: {counts == Counter(row['id'] for row in rows)}")
    print(f"texts that differ: {sum(texts[row['id']] != row['text'] for row in found)}")
    print(f"failed: {sum(row['error'] is not None for row in found)}")


if __name__ == "__main__":
    main()
