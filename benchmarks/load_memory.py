"""Measure peak memory during loading, relative to the float32 size of the weights.

    python benchmarks/load_memory.py [--size large|medium] [--decoder bart] [--format safetensors|bin] [--json FILE]

`transformers` saves a random model (by default wav2vec2-large and BART-large, in 500 MB shards) to a temporary folder.
dragoman and `transformers` then load it, each in its own process, and read every weight once, so that memory-mapped
pages count too. The peak is the maximum resident memory (`VmHWM`) above that of the process with the libraries
imported; "kept" is the anonymous memory it holds afterwards. Linux only.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {
    "large": {
        "encoder": {
            "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
            "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True,
        },
        "bart": {},
        "bert": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
        "gpt2": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    },
    "medium": {
        "encoder": {"num_hidden_layers": 6},
        "bart": {"d_model": 768, "decoder_layers": 3, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072},
        "bert": {"num_hidden_layers": 3},
        "gpt2": {"n_layer": 3},
    },
}  # fmt: skip


def write(folder: str, size: str, decoder: str, kind: str) -> None:
    """Save the model with `transformers`."""
    import torch
    import transformers as tf

    tf.utils.logging.set_verbosity_error()
    tf.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = tf.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        tf.Wav2Vec2Config(**SIZES[size]["encoder"]),
        tf.AutoConfig.for_model(decoder, is_decoder=True, add_cross_attention=True, **SIZES[size][decoder]),
    )
    model = tf.SpeechEncoderDecoderModel(config=config)
    if kind == "safetensors":
        model.save_pretrained(folder, max_shard_size="500MB")
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), Path(folder) / "pytorch_model.bin")


def memory(field: str) -> int:
    """Return a field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit("Peak memory can only be measured on Linux.")


def load(folder: str, library: str) -> None:
    """Load the model, read every weight once, and print the measurements as JSON."""
    import torch

    torch.set_num_threads(1)
    cls = importlib.import_module(library).SpeechEncoderDecoderModel
    before, own = memory("VmRSS"), memory("RssAnon")
    model = cls.from_pretrained(folder)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.sum()
    size = sum(tensor.numel() * 4 for tensor in model.parameters())
    print(json.dumps({"weights": size, "peak": memory("VmHWM") - before, "kept": memory("RssAnon") - own}))


def main() -> None:
    """Measure both libraries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--decoder", choices=("bart", "bert", "gpt2"), default="bart")
    parser.add_argument("--format", choices=("safetensors", "bin"), default="safetensors")
    parser.add_argument("--library", nargs="+", default=["dragoman", "transformers"])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        write(*options.step[1:]) if options.step[0] == "write" else load(*options.step[1:])
        return
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "TOKENIZERS_PARALLELISM": "false"}

    def step(*arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", __file__, "--step", *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    figures = {}
    print(
        f"{options.size}, {options.decoder}, {options.format}; {platform.machine()}, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        step("write", folder, options.size, options.decoder, options.format)
        print(f"{len(list(Path(folder).glob('*.[sb]*')))} weight files")
        print(
            "| library      | weights, GB | peak, GB | peak / weights | kept, GB |\n| --- | ---: | ---: | ---: | ---: |"
        )
        for library in options.library:
            found = json.loads(step("load", folder, library).splitlines()[-1])
            ratio = found["peak"] / found["weights"]
            figures[library] = {**found, "ratio": ratio}
            weights, peak, kept = (found[name] / 1e9 for name in ("weights", "peak", "kept"))
            print(f"| {library:12} | {weights:11.2f} | {peak:8.2f} | {ratio:14.2f} | {kept:8.2f} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
