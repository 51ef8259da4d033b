"""JAX against PyTorch, one after the other in one run: encoder, greedy search, beam search, a step of training.

The models are random: wav2vec2-base joined to BERT-base (`--size tiny` to try the script). Times do not depend on what
the weights are, since texts have a fixed length. What JAX needs to compile is a column of its own.

    python benchmarks/jax_vs_torch.py --threads 2 --seconds 10 --tokens 32
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", choices=("base", "tiny"), default="base")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--seconds", type=float, default=10.0)
parser.add_argument("--tokens", type=int, default=32)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--cpu-time", action="store_true", help="of all threads; for a busy machine, with one thread")
parser.add_argument("--no-training", action="store_true")
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
if sys.platform == "linux":  # XLA makes as many threads as it may use processors
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])

import jax  # noqa: E402 (after its threads are set)
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402

from dragoman import (  # noqa: E402
    BertConfig,
    FlaxSpeechEncoderDecoderModel,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    Wav2Vec2Config,
)
from dragoman.jax.train import Trainer  # noqa: E402
from dragoman.testing import tiny_config  # noqa: E402


def models() -> tuple[SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel]:
    """Return the same model in both backends."""
    parts = (Wav2Vec2Config(), BertConfig())
    if arguments.size == "tiny":
        parts = (tiny_config("wav2vec2"), tiny_config("bert"))
    config = SpeechEncoderDecoderConfig(
        encoder=parts[0], decoder=parts[1], decoder_start_token_id=2, pad_token_id=0, eos_token_id=3
    )
    with tempfile.TemporaryDirectory() as folder:
        SpeechEncoderDecoderModel(config=config).save_pretrained(folder)
        ours = SpeechEncoderDecoderModel.from_pretrained(folder)
        return ours, FlaxSpeechEncoderDecoderModel.from_pretrained(folder)


def measure(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the first call and the median of the later ones."""
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    times = []
    for _ in range(1 + arguments.repeats):
        begin = clock()
        run()
        times.append(clock() - begin)
    return times[0], statistics.median(times[1:])


def main() -> None:
    torch.set_num_threads(arguments.threads)
    torch_model, jax_model = models()
    random = np.random.default_rng(0)
    speech = random.standard_normal((1, int(16_000 * arguments.seconds))).astype(np.float32)
    labels = random.integers(5, 90, (1, arguments.tokens))
    waves, targets = torch.from_numpy(speech), torch.from_numpy(labels)
    options = {"max_new_tokens": arguments.tokens, "min_new_tokens": arguments.tokens}

    def torch_encoder() -> None:
        with torch.inference_mode():
            torch_model.encoder(waves)

    def torch_step() -> None:
        torch_model.train()
        optimizer.zero_grad()
        torch_model(waves, labels=targets).loss.backward()
        optimizer.step()

    optimizer = torch.optim.AdamW(torch_model.parameters(), 1e-5)
    trainer = Trainer(jax_model, optax.adamw(1e-5))
    batch = trainer.batch([{"input_values": speech, "labels": labels}])

    def jax_step() -> None:
        nonlocal state
        state, loss = trainer.step(state, batch)
        loss.block_until_ready()

    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("encoder", torch_encoder, lambda: jax.block_until_ready(jax_model.encode(speech).last_hidden_state)),
        ("greedy", lambda: torch_model.generate(waves, **options), lambda: jax_model.generate(speech, **options)),
        (
            "beam 5",
            lambda: torch_model.generate(waves, num_beams=5, **options),
            lambda: jax_model.generate(speech, num_beams=5, **options),
        ),
        ("train step", torch_step, jax_step),
    ]
    if arguments.no_training:
        rows.pop()
    print(f"{arguments.size}, {arguments.seconds:g} s of audio, {arguments.tokens} tokens, {arguments.threads} threads")
    print(f"torch {torch.__version__}, jax {jax.__version__}, {jax.devices()[0].platform}\n")
    print(f"| {'what':10} | PyTorch (ms) | JAX (ms) | speed-up | JAX's first call (s) |")
    print(f"|{'-' * 12}|{'-' * 14}|{'-' * 10}|{'-' * 10}|{'-' * 22}|")
    state = trainer.begin()
    for name, in_torch, in_jax in rows:
        _, theirs = measure(in_torch)
        first, ours = measure(in_jax)
        print(f"| {name:10} | {1e3 * theirs:12.1f} | {1e3 * ours:8.1f} | {theirs / ours:8.2f} | {first:20.1f} |")


if __name__ == "__main__":
    main()
