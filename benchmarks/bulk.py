"""What `dragoman bulk` promises, measured: nothing lost or doubled, how fast, in how much memory.

    python benchmarks/bulk.py kill MANIFEST OUT [--runner ray] [--model random] [--clips 1000]
    python benchmarks/bulk.py speed MANIFEST OUT [--model default] [--clips 100] [--turns 3]
    python benchmarks/bulk.py memory MANIFEST OUT [--clips 5000]

`kill` ends workers (20 times) and the driver (twice) with SIGKILL at random, and compares every text with what the
Transcriber makes of the clip alone. With `--runner ray` it starts two nodes of Ray as processes, one CPU each, or one
of two CPUs (`--nodes 1`).
`speed` runs in turns two runs of one worker each side by side, on half the clips each, and one run of two workers: the
same load at the same time, whatever else the machine does. `memory` transcribes the clips again and again, under other
ids, and prints the memory of each worker (VmRSS).

Clips are fetched by `recipes/amazon-queen/clips.py`. The model `random` is a small one with random weights, whose texts
differ from clip to clip; `default` is the default model.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

OPTIONS = {"beam_size": 1, "temperature": 0.0, "vad_filter": False}
FLAGS = ["--beam_size", "1", "--temperature", "0", "--no_vad_filter", "--threads", "1"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


def random_model(folder: Path) -> str:
    """Write a model whose transcripts depend on the speech and end after eight tokens."""
    import torch

    from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Wav2Vec2FeatureExtractor
    from dragoman.testing import tiny_config

    torch.manual_seed(0)
    special = {"decoder_start_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    encoder = tiny_config("wav2vec2", conv_stride=(5, 8, 8), initializer_range=0.2)
    decoder = tiny_config("gpt2", vocab_size=len(WORDS), n_positions=32, initializer_range=0.5)
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(encoder=encoder, decoder=decoder, **special))
    with torch.no_grad():  # from the eighth on, positions point in the direction of the end token's embedding
        end = torch.tensor([1.0, -1.0] * 12)
        model.decoder.embed.positions.weight.sub_(2 * end)[8:] = 40 * end
        model.decoder.embed.tokens.weight[3] = end
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return str(folder)


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(source: Path, out: Path, model: str | None, *options: object) -> list[str]:
    words = [sys.executable, "-m", "dragoman", "bulk", source, "-o", out, *FLAGS, *options]
    return [*map(str, words), *([] if model is None else ["--model", model])]


def rows_in(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for path in sorted(out.glob("part-*")) for line in path.read_text().splitlines()]


def workers_of(out: Path) -> list[int]:
    """Return the processes on this machine that are at work on a part."""
    found = {int(path.name.split(".")[1].split("-")[0]) for path in (out / "_bulk/journals").glob("*")}
    return sorted(process for process in found if Path(f"/proc/{process}").exists())


def done_in(out: Path) -> int:
    finished = [json.loads(line)["items"] for path in out.glob("finished*") for line in path.read_text().splitlines()]
    journals = (path.read_bytes().count(b'{"row"') for path in (out / "_bulk/journals").glob("*"))
    return sum(finished) + sum(journals)


@contextmanager
def ray_nodes(number: int) -> Iterator[None]:
    """Nodes of Ray on this machine, of two CPUs together; nothing else of Ray may run."""
    os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", f"{random.getrandbits(256):064x}"
    program = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats"]
    program += ["--num-cpus", str(2 // number), "--object-store-memory", "100000000"]
    address = f"{socket.gethostbyname(socket.gethostname())}:6399"
    head, other = ["--head", "--port", "6399", "--include-dashboard", "false"], ["--address", address]
    with ExitStack() as stack:
        for given in (head, other)[:number]:
            started = False
            while not started:  # Ray gives up after 30 s, which may be too few on a busy machine
                node = subprocess.Popen([*program, *given], stdout=subprocess.PIPE, text=True)
                started = any("Ray runtime started" in line for line in node.stdout)
            stack.callback(node.wait)
            stack.callback(node.terminate)
        os.environ["RAY_ADDRESS"] = address
        yield


def kill(given: argparse.Namespace, rows: list[dict[str, str]], model: str | None) -> None:
    out, total, order = given.out / given.runner, len(rows), random.Random(given.seed)
    points = sorted([(order.uniform(0, 0.9), "worker") for _ in range(given.kills)]
                    + [(order.uniform(0.2, 0.8), "driver") for _ in range(given.driver_kills)])  # fmt: skip
    words = command(written(given.out / "kill.jsonl", rows), out, model, "--runner", given.runner, "--workers", 2)
    words += ["--items_per_part", str(given.items_per_part)]
    begin, killed = time.perf_counter(), Counter()
    driver = subprocess.Popen(words)
    while driver.poll() is None or driver.returncode == -signal.SIGKILL:
        if driver.poll() is not None:
            driver = subprocess.Popen(words)
        if points and done_in(out) >= points[0][0] * total:
            workers = workers_of(out)
            if points[0][1] == "driver":
                driver.kill()
                driver.wait()
            elif workers:
                os.kill(order.choice(workers), signal.SIGKILL)
            if points[0][1] == "driver" or workers:
                killed[points.pop(0)[1]] += 1
        time.sleep(0.2)
    seconds, found = time.perf_counter() - begin, rows_in(out)
    print(f"{total} clips in {seconds:.0f} s, exit code {driver.returncode}; killed: {dict(killed)}")
    print(
        f"rows {len(found)}, every id once: {sorted(row['id'] for row in found) == sorted(row['id'] for row in rows)}"
    )
    expected = texts_alone(given.out / "expected.json", rows, model)
    texts = [row["text"] for row in found]
    print(f"texts that differ: {sum(expected[row['id']] != row['text'] for row in found)} ({len(set(texts))} texts)")
    print(f"failed: {[row['error'] for row in found if row['error'] is not None]}")


def texts_alone(path: Path, rows: list[dict[str, str]], model: str | None) -> dict[str, str]:
    """Return what the Transcriber makes of each clip alone, by id; it is kept for the next comparison."""
    from dragoman import Transcriber

    texts: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if not all(row["id"] in texts for row in rows):
        one = Transcriber(model, threads=1)
        texts = {row["id"]: one.transcribe(row["audio"], **OPTIONS).text for row in rows}
        path.write_text(json.dumps(texts))
    return texts


def together(commands: list[list[str]]) -> tuple[float, float]:
    """Run commands at the same time; return wall-clock and CPU seconds, those of their workers included."""
    begin, cpu = time.perf_counter(), 0.0
    running = [subprocess.Popen(one, stdout=subprocess.DEVNULL) for one in commands]
    for one in running:
        _, status, usage = os.wait4(one.pid, 0)
        one.returncode = os.waitstatus_to_exitcode(status)
        assert one.returncode == 0, one.args
        cpu += usage.ru_utime + usage.ru_stime
    return time.perf_counter() - begin, cpu


def speed(given: argparse.Namespace, rows: list[dict[str, str]], model: str | None) -> None:
    manifest = written(given.out / "speed.jsonl", rows)
    size = ("--items_per_part", max(len(rows) // 8, 1))  # four parts for each worker
    measured: dict[str, list[tuple[float, float]]] = {"start": [], "single ones": [], "two workers": []}
    for turn in range(given.turns):
        places = {name: given.out / f"{name.replace(' ', '-')}-{turn}" for name in measured}
        first = written(given.out / "first.jsonl", rows[:1])
        jobs = {
            "start": [command(first, places["start"], model, "--workers", 1)],
            "single ones": [
                command(manifest, places["single ones"], model, "--workers", 1, *size, "--shard", f"{shard}/2")
                for shard in (1, 2)
            ],
            "two workers": [command(manifest, places["two workers"], model, "--workers", 2, *size)],
        }
        for name in sorted(jobs, reverse=turn % 2 == 1):
            measured[name].append(together(jobs[name]))
    audio = sum(row["duration"] for row in rows_in(places["two workers"]))
    for name, several in measured.items():
        wall, cpu = (median(one[part] for one in several) for part in (0, 1))
        print(f"{name}: {wall:.1f} s ({', '.join(f'{one[0]:.1f}' for one in several)}), CPU {cpu:.1f} s")
    start = median(cpu for _, cpu in measured["start"])
    for name in ("single ones", "two workers"):
        cpu = median(cpu for _, cpu in measured[name])
        print(f"{name}: {(cpu - 2 * start) / audio:.4f} s of CPU time for a second of audio, without the start")
    ratios = [one[0] / two[0] for one, two in zip(measured["single ones"], measured["two workers"], strict=True)]
    print(f"{audio:.0f} s of audio; two workers to the sum of single ones: {median(ratios):.2f} ({ratios})")


def memory(given: argparse.Namespace, rows: list[dict[str, str]], model: str | None) -> None:
    manifest, out = written(given.out / "memory.jsonl", rows), given.out / "memory"
    driver = subprocess.Popen(command(manifest, out, model, "--workers", 2, "--items_per_part", 100))
    printed = 0
    while driver.poll() is None:
        if (done := done_in(out)) >= printed:
            sizes = [Path(f"/proc/{one}/status").read_text() for one in workers_of(out)]
            shown = [f"{int(size.split('VmRSS:')[1].split()[0]) / 1024:.0f} MiB" for size in sizes]
            print(f"{done} clips: {', '.join(shown)}", flush=True)
            printed += len(rows) // 20
        time.sleep(0.5)
    print(f"rows: {len(rows_in(out))}, exit code {driver.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("kill", "speed", "memory"))
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="random")
    parser.add_argument("--runner", default="local", choices=("local", "ray"))
    parser.add_argument("--nodes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--items_per_part", type=int, default=50)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--driver_kills", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shutil.rmtree(given.out / given.runner, ignore_errors=True)
    given.out.mkdir(parents=True, exist_ok=True)
    model = random_model(given.out / "model") if given.model == "random" else given.model
    clips = [json.loads(line) for line in given.manifest.read_text().splitlines()]
    rows = [
        {"id": f"{number}-{clip['id']}", "audio": str((given.manifest.parent / clip["audio_filepath"]).absolute())}
        for number, clip in zip(range(given.clips), clips * (given.clips // len(clips) + 1), strict=False)
    ]
    with ray_nodes(given.nodes) if given.runner == "ray" else ExitStack():
        {"kill": kill, "speed": speed, "memory": memory}[given.what](given, rows, None if model == "default" else model)


if __name__ == "__main__":
    main()
