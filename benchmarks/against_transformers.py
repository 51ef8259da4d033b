"""Compare dragoman with `transformers` in one process, on the same weights and the same audio.

    python benchmarks/against_transformers.py [--threads 2] [--repeats 5] [--seconds 10] [--tokens 40] [--json FILE]

The model has the shapes of wav2vec2-base and BERT-base with random weights, saved by `transformers` and loaded by both.
After a warm-up, the two are timed alternately (A B A B …). The table shows median times and the median of the pairwise
ratios.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--seconds", type=float, default=10.0, help="length of the clip")
parser.add_argument("--tokens", type=int, default=40, help="tokens to generate (about 4 a second of speech)")
parser.add_argument("--batch", type=int, default=1)
parser.add_argument(
    "--clock", choices=["wall", "cpu"], default="wall", help="cpu: for a busy machine; use with --threads 1"
)
parser.add_argument("--only", nargs="*", help="run only the rows with these names")
parser.add_argument("--json", type=Path, help="also write the figures to this file")
options = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(options.threads)
warnings.simplefilter("ignore")

import torch  # noqa: E402 (OMP_NUM_THREADS is read at import)
import transformers  # noqa: E402

import dragoman  # noqa: E402

torch.set_num_threads(options.threads)
clock = time.process_time if options.clock == "cpu" else time.perf_counter
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def make_models(folder: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Save a random model with `transformers` and load it with both libraries."""
    torch.manual_seed(0)
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.Wav2Vec2Config(), transformers.BertConfig(is_decoder=True, add_cross_attention=True)
    )
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 101, 0, None
    transformers.SpeechEncoderDecoderModel(config=config).save_pretrained(folder)
    theirs = transformers.SpeechEncoderDecoderModel.from_pretrained(folder).eval()
    theirs.generation_config.decoder_start_token_id, theirs.generation_config.pad_token_id = 101, 0
    return dragoman.SpeechEncoderDecoderModel.from_pretrained(folder), theirs


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, object]:
    """Time two functions alternately and print a row."""
    ours(), theirs()
    pairs = []
    for _ in range(options.repeats):
        pair = []
        for function in ours, theirs:
            begin = clock()
            function()
            pair.append(clock() - begin)
        pairs.append(pair)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(theirs_s / ours_s for ours_s, theirs_s in pairs)
    print(f"| {name:32} | {a * 1000:9.1f} | {b * 1000:12.1f} | {ratio:5.2f} |", flush=True)
    return {"row": name, "dragoman_ms": a * 1000, "transformers_ms": b * 1000, "ratio": ratio}


def rows(
    ours: torch.nn.Module, theirs: torch.nn.Module
) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Return the name of each row with the two functions to time."""
    audio = torch.randn(options.batch, int(options.seconds * 16_000))
    with torch.inference_mode():
        states = ours.encoder(audio)
        their_states = theirs.encoder(audio)
    length = {"max_new_tokens": options.tokens, "min_new_tokens": options.tokens}

    def pair(**how: object) -> tuple[Callable[[], object], Callable[[], object]]:
        from transformers.modeling_outputs import BaseModelOutput

        def fresh() -> BaseModelOutput:  # `transformers` modifies this object, so each call needs its own
            return BaseModelOutput(last_hidden_state=their_states.last_hidden_state)

        return (
            lambda: ours.generate(encoder_outputs=states, **length, **how),
            lambda: theirs.generate(
                encoder_outputs=fresh(), attention_mask=torch.ones(audio.shape, dtype=torch.long), **length, **how
            ),
        )

    def encode(model: torch.nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.inference_mode():
                model.encoder(audio)

        return run

    return [
        ("encoder", encode(ours), encode(theirs)),
        ("greedy, encoder states given", *pair()),
        ("beam 5, encoder states given", *pair(num_beams=5)),
        (
            "end to end, beam 5",
            lambda: ours.generate(audio, num_beams=5, **length),
            lambda: theirs.generate(audio, num_beams=5, **length),
        ),
    ]


def main() -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    print(
        f"dragoman {dragoman.__version__} ({commit.strip()}), transformers {transformers.__version__}, torch "
        f"{torch.__version__}, {platform.machine()}, {options.threads} threads, {options.clock} clock; "
        f"{options.seconds} s of audio x {options.batch}, {options.tokens} tokens, {options.repeats} pairs; "
        f"`{' '.join(sys.argv)}`\n"
    )
    print("| row | dragoman ms | transformers ms | transformers / dragoman (median of pairs) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = make_models(folder)
        found = [compare(name, a, b) for name, a, b in rows(ours, theirs) if not options.only or name in options.only]
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
