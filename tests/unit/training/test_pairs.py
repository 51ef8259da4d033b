"""Training of several kinds of pairs, of several sets, and with several processes."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import (
    ConfigError,
    SpeechEncoder,
    SpeechEncoderDecoderModel,
    TextDecoder,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from dragoman.testing import tiny_config
from dragoman.training import train

from .conftest import WORDS


def write_pair(folder: Path, encoder: str, decoder: str) -> dict[str, str]:
    torch.manual_seed(0)
    fields = {"conv_stride": (5, 8, 8)} if encoder in ("hubert", "wav2vec2") else {}
    SpeechEncoder(tiny_config(encoder, **fields)).save_pretrained(folder / "speech")
    if encoder == "whisper":
        extractor: Any = WhisperFeatureExtractor(feature_size=8, chunk_length=1, hop_length=266)
    else:
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    extractor.save_pretrained(folder / "speech")
    TextDecoder(tiny_config(decoder)).save_pretrained(folder / "text")
    (folder / "text/vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "text/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return {"encoder": str(folder / "speech"), "decoder": str(folder / "text")}


@pytest.mark.parametrize(
    ("encoder", "decoder", "options"),
    [
        ("hubert", "gpt2", {}),
        ("whisper", "bart", {"freeze_encoder": True}),
        ("wav2vec2", "llama", {"fusion": "prefix", "lora_rank": 2}),
    ],
)
def test_pairs_learn(config: dict[str, Any], tmp_path: Path, encoder: str, decoder: str, options: Any) -> None:
    config = copy.deepcopy(config)
    config["model"] = {**write_pair(tmp_path, encoder, decoder), **options}
    config["data"] |= {"max_duration_in_seconds": 0.6}
    config["training"] |= {"max_steps": 12, "eval_steps": 6, "save_steps": 6, "learning_rate": 1e-2}
    found: list[dict[str, Any]] = []
    result = train(config, listener=found.append)
    losses = [record["loss"] for record in found if "loss" in record]
    assert sum(losses[-3:]) < 0.99 * sum(losses[:3])
    assert result.metrics is not None
    assert result.metrics["loss"] < losses[0]
    model = SpeechEncoderDecoderModel.from_pretrained(result.folder)
    start = SpeechEncoder.from_pretrained(config["model"]["encoder"])
    name = "stack.layers.0.ffn.in_proj.weight"
    moved = not torch.equal(model.encoder.get_parameter(name), start.get_parameter(name))
    assert moved != bool(options.get("freeze_encoder"))


def test_several_sets_by_weight_and_a_share_to_validate_on(
    config: dict[str, Any], manifest: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    paths = []
    for name, part in (("a", rows[:24]), ("b", rows[24:])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({**row, "audio": str(manifest.parent / row["audio"])}) for row in part))
        paths.append(str(path))
    config = copy.deepcopy(config)
    config["data"] |= {"train": paths, "train_weights": [1, 3], "valid": None, "valid_share": 0.25}
    config["training"] |= {"max_steps": 3}
    result = train(config)
    assert result.metrics is not None
    card = (result.folder / "README.md").read_text()
    assert f"`{paths[0]}`, `{paths[1]}`" in card
    assert "25% of it, which share no text" in card
    config["data"] |= {"train_weights": [1], "valid_share": 0.25}
    config["training"]["output_dir"] += "2"
    with pytest.raises(ConfigError, match="2 numbers"):
        train(config)


@pytest.mark.nightly
def test_jax_trains_by_the_same_configuration_and_continues_exactly(config: dict[str, Any], tmp_path: Path) -> None:
    config = copy.deepcopy(config)
    config["model"]["backend"] = "jax"
    config["evaluation"]["predict_with_generate"] = False
    config["data"] |= {"num_buckets": 1, "seconds_per_batch": 8.0, "speed_perturbation": [1.0]}  # few shapes to compile
    config["training"] |= {"max_steps": 4, "save_steps": 2, "eval_steps": 4}
    whole = train(config)
    assert whole.metrics is not None
    run = tmp_path / "run"
    names = ("checkpoint-4/weights.safetensors", "checkpoint-4/optimizer.safetensors", "best/model.safetensors")
    first = {name: (run / name).read_bytes() for name in names}
    (run / "checkpoint-4/files.json").unlink()
    assert train(config, resume=True).step == 4
    assert {name: (run / name).read_bytes() for name in names} == first
    config["model"]["backend"] = "torch"  # the other backend goes on from there
    config["training"]["max_steps"] = 5
    assert train(config, resume=True).step == 5
    SpeechEncoderDecoderModel.from_pretrained(whole.folder)


def test_early_stopping(config: dict[str, Any]) -> None:
    config = copy.deepcopy(config)
    config["training"] |= {"learning_rate": 0.0, "early_stopping_patience": 2, "eval_steps": 1, "max_steps": 50}
    config["evaluation"] |= {"predict_with_generate": False}
    assert train(config).step == 3


def by_torchrun(words: list[str], log: Path) -> None:
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dragoman"]
    done = subprocess.run(
        [sys.executable, *program, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "launcher",
    [
        "forks",
        pytest.param("forks-fsdp", marks=pytest.mark.nightly),
        pytest.param("torchrun", marks=pytest.mark.nightly),
    ],
)
def test_two_processes_train_one_model_and_continue_exactly(
    config: dict[str, Any], tmp_path: Path, launcher: str, start_all: Any
) -> None:
    config = copy.deepcopy(config)
    config["training"] |= {"max_steps": 4, "save_steps": 2, "eval_steps": 4}
    if launcher == "forks-fsdp":
        config["training"] |= {"fsdp": "shard_grad_op", "ema_decay": 0.9}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))

    def by_forks(words: list[str], log: Path) -> None:
        code = f"from dragoman.cli import main; sys.exit(main({words!r}))"
        for process in start_all(code, log, 2):
            process.join()
            assert process.exitcode == 0, log.read_text()

    run = by_torchrun if launcher == "torchrun" else by_forks
    run(["train", str(path)], tmp_path / "first.txt")
    whole = tmp_path / "run"
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]

    def written() -> dict[Path, bytes]:
        found = [whole / "best/model.safetensors", *sorted((whole / "checkpoint-4").rglob("*"))]
        return {path: path.read_bytes() for path in found if path.suffix in (".safetensors", ".distcp")}

    first = written()
    assert len(first) == 3
    damaged = list(first)[-1]
    damaged.write_bytes(first[damaged][:-1])
    run(["train", str(path), "--resume"], tmp_path / "second.txt")  # from checkpoint-2
    assert written() == first
