"""Compare JAX with PyTorch in one run: encoder, greedy search, beam search, training step.

The models have random weights: wav2vec2-base joined to BERT-base (`--size tiny` to try the script). Times do not depend
on the weights, because the output length is fixed. After a first call of each, the two are timed alternately; for JAX
the first call includes compilation and has its own column. The table shows median times and the median of the pairwise
ratios. A training step is one clip, shorter than in the other rows, through loss, gradients and AdamW, with dropout and
without SpecAugment and LayerDrop, which differ between the backends. With 12 layers it takes about 9 GB of memory and
minutes to compile.

    python benchmarks/jax_vs_torch.py --threads 2 --seconds 10 --tokens 32
    python benchmarks/jax_vs_torch.py --threads 2 --repeats 3 --layers 4 --only "train step"
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
parser.add_argument("--layers", type=int, default=12, help="layers of each part of the base size; fewer compile faster")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--seconds", type=float, default=10.0)
parser.add_argument("--tokens", type=int, default=32)
parser.add_argument(
    "--train_seconds", type=float, default=2.0, help="seconds of audio in the train step, with 10 tokens"
)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a busy machine, with one thread")
parser.add_argument("--only", nargs="*", help="run only the rows with these names")
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
if sys.platform == "linux":  # XLA starts one thread per CPU it may use
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])

import jax  # noqa: E402 (after the thread count is set)
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
    even = {"layerdrop": 0.0, "apply_spec_augment": False}
    layers = {"num_hidden_layers": arguments.layers}
    parts = (Wav2Vec2Config(**layers, **even), BertConfig(**layers))
    if arguments.size == "tiny":
        parts = (tiny_config("wav2vec2", **even), tiny_config("bert"))
    config = SpeechEncoderDecoderConfig(
        encoder=parts[0], decoder=parts[1], decoder_start_token_id=2, pad_token_id=0, eos_token_id=3
    )
    with tempfile.TemporaryDirectory() as folder:
        SpeechEncoderDecoderModel(config=config).save_pretrained(folder)
        ours = SpeechEncoderDecoderModel.from_pretrained(folder)
        return ours, FlaxSpeechEncoderDecoderModel.from_pretrained(folder)


clock = time.process_time if arguments.clock == "cpu" else time.perf_counter


def timed(run: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    begin = clock()
    run()
    return clock() - begin


def compare(name: str, in_torch: Callable[[], object], in_jax: Callable[[], object]) -> None:
    """Time both alternately and print a row."""
    first = timed(in_jax)
    in_torch()
    pairs = [(timed(in_torch), timed(in_jax)) for _ in range(arguments.repeats)]
    theirs, ours = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(there / here for there, here in pairs)
    print(f"| {name:28} | {theirs:12.1f} | {ours:8.1f} | {ratio:8.2f} | {first:20.1f} |", flush=True)


def steps(
    torch_model: SpeechEncoderDecoderModel, jax_model: FlaxSpeechEncoderDecoderModel, speech: np.ndarray
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a training step in each backend."""
    labels = np.random.default_rng(0).integers(5, 90, (1, 10))
    waves, targets = torch.from_numpy(speech), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(torch_model.parameters(), 1e-5)
    trainer = Trainer(jax_model, optax.adamw(1e-5))
    batch, state = trainer.batch([{"input_values": speech, "labels": labels}]), trainer.begin()

    def in_torch() -> None:
        torch_model.train()
        optimizer.zero_grad()
        torch_model(waves, labels=targets).loss.backward()
        optimizer.step()

    def in_jax() -> None:
        nonlocal state
        state, loss = trainer.step(state, batch)
        loss.block_until_ready()

    return in_torch, in_jax


def rows(
    torch_model: SpeechEncoderDecoderModel, jax_model: FlaxSpeechEncoderDecoderModel
) -> dict[str, Callable[[], tuple[Callable[[], object], Callable[[], object]]]]:
    """Return, by row name, a function that builds the two functions to time; inputs are built on demand."""
    random = np.random.default_rng(0)

    def noise(seconds: float) -> np.ndarray:
        return random.standard_normal((1, int(16_000 * seconds))).astype(np.float32)

    speech = noise(arguments.seconds)
    waves = torch.from_numpy(speech)
    options = {"max_new_tokens": arguments.tokens, "min_new_tokens": arguments.tokens}

    def torch_encoder() -> object:
        with torch.inference_mode():
            return torch_model.encoder(waves)

    def jax_encoder() -> object:
        return jax.block_until_ready(jax_model.encode(speech))

    def writing(**how: int) -> tuple[Callable[[], object], Callable[[], object]]:
        torch_states, jax_states = torch_encoder(), jax_encoder()
        return (
            lambda: torch_model.generate(encoder_outputs=torch_states, **options, **how),
            lambda: jax_model.generate(encoder_outputs=jax_states, **options, **how),
        )

    return {
        "encoder": lambda: (torch_encoder, jax_encoder),
        "greedy, encoder states given": writing,
        "beam 5, encoder states given": lambda: writing(num_beams=5),
        "train step": lambda: steps(torch_model, jax_model, noise(arguments.train_seconds)),
    }


def main() -> None:
    torch.set_num_threads(arguments.threads)
    table = rows(*models())
    print(f"{arguments.size}, {arguments.seconds:g} s of audio, {arguments.tokens} tokens, {arguments.threads} threads")
    print(f"torch {torch.__version__}, jax {jax.__version__}, {jax.devices()[0].platform}, {arguments.clock} clock\n")
    print(f"| {'row':28} | PyTorch (ms) | JAX (ms) | speed-up | first JAX call (s)  |")
    print(f"|{'-' * 30}|{'-' * 14}|{'-' * 10}|{'-' * 10}|{'-' * 22}|")
    for name, pair in table.items():
        if not arguments.only or name in arguments.only:
            compare(name, *pair())


if __name__ == "__main__":
    main()
