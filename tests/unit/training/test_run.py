"""Whole runs of a tiny model: what they write, and that a run that was stopped ends as if it had not been."""

import copy
import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dragoman import AutoProcessor, ConfigError, DragomanError, SpeechEncoderDecoderModel
from dragoman.cli import main
from dragoman.torch.backend import own_tensors
from dragoman.training import Config, average, train
from dragoman.training.checkpoints import checkpoints as checkpoints_of

EXACT = ("best/model.safetensors", "checkpoint-9/weights.safetensors", "checkpoint-9/optimizer.safetensors")
STILL = {
    f"{part}_{name}": value
    for part, name, value in [
        ("encoder", "apply_spec_augment", False),
        *(("encoder", f"{name}dropout", 0.0) for name in ("hidden_", "attention_", "activation_", "feat_proj_")),
        ("encoder", "layerdrop", 0.0),
        ("decoder", "hidden_dropout_prob", 0.0),
        ("decoder", "attention_probs_dropout_prob", 0.0),
    ]
}


def changed(config: dict[str, Any], **parts: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(config)
    for part, options in parts.items():
        result[part].update(options)
    return result


def state_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "checkpoint-9/state.json").read_text())
    del found["config"]
    return found


def assert_same(folder: Path, other: Path) -> None:
    for name in EXACT:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert state_of(folder) == state_of(other)


@pytest.fixture(scope="module")
def finished() -> dict[str, Path]:
    return {}


@pytest.fixture
def reference(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, finished: dict[str, Path]) -> Path:
    """The folder of the run that was never stopped."""
    if "folder" not in finished:
        folder = tmp_path_factory.mktemp("reference") / "run"
        train(changed(config, training={"output_dir": str(folder)}))
        finished["folder"] = folder
    return finished["folder"]


def test_what_a_run_writes(reference: Path) -> None:
    lines = [json.loads(line) for line in (reference / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 10))
    figures = {"epoch", "loss", "learning_rate", "grad_norm", "tokens", "seconds", "padding", "seconds_per_second"}
    assert figures < steps[0].keys()
    assert steps[0]["learning_rate"] == 0.0
    assert steps[1]["learning_rate"] == pytest.approx(1.5e-3)
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 6, 9]
    assert [path.name for path in checkpoints_of(reference)] == ["checkpoint-9", "checkpoint-8"]
    model = SpeechEncoderDecoderModel.from_pretrained(reference / "best")
    assert len(AutoProcessor.from_pretrained(reference / "best").tokenizer) == 56
    assert not model.load_report.fresh
    card = (reference / "best/README.md").read_text()
    assert "word error rate" in card
    assert "speed_perturbation" in card


@pytest.mark.parametrize("workers", [0, 5])
def test_the_number_of_workers_changes_nothing(config: dict[str, Any], reference: Path, workers: int) -> None:
    config = changed(config, training={"dataloader_num_workers": workers})
    train(config)
    assert_same(Path(config["training"]["output_dir"]), reference)


def test_signals_save_and_stop_and_the_run_goes_on_exactly(config: dict[str, Any], reference: Path) -> None:
    """One at an evaluation, one at a checkpoint, one between."""
    folder = Path(config["training"]["output_dir"])
    for step, number in {3: signal.SIGTERM, 4: signal.SIGINT, 7: signal.SIGUSR1}.items():

        def stop(record: dict[str, Any], step: int = step, number: int = number) -> None:
            if record["step"] == step and "loss" in record:
                os.kill(os.getpid(), number)

        result = train(config, resume=True, listener=stop)
        assert (result.step, result.signal) == (step, number)
        assert (folder / f"checkpoint-{step}").is_dir()
    result = train(config, resume=True)
    assert (result.step, result.signal) == (9, 0)
    assert_same(folder, reference)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 10))


def test_a_damaged_checkpoint_is_passed_over(config: dict[str, Any], reference: Path, caplog: Any) -> None:
    folder = Path(config["training"]["output_dir"])
    train(changed(config, training={"max_steps": 6, "save_steps": 2}))
    with (folder / "checkpoint-6/weights.safetensors").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x7f")
    with caplog.at_level(logging.WARNING, "dragoman"):
        train(config, resume=True)
    told = caplog.text
    assert "checkpoint-6 is damaged (weights.safetensors has changed)" in told
    assert "training.max_steps: 6 → 9" in told
    assert (folder / "checkpoint-9").is_dir()


def test_a_finished_run_is_left_as_it_is(config: dict[str, Any], reference: Path) -> None:
    before = {path: path.read_bytes() for path in reference.rglob("*") if path.is_file() and "lock" not in path.name}
    result = train(changed(config, training={"output_dir": str(reference)}), resume=True)
    assert result.step == 9
    changed_files = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert set(changed_files) <= {"training_config.json"}


def test_an_earlier_run_is_never_overwritten(config: dict[str, Any], reference: Path) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        train(changed(config, training={"output_dir": str(reference)}))


def test_other_data_cannot_continue_a_run(config: dict[str, Any]) -> None:
    train(changed(config, training={"max_steps": 1}))
    with pytest.raises(ConfigError, match="to continue in the middle of an epoch"):
        train(changed(config, data={"seconds_per_batch": 3.0}), resume=True)


def test_two_runs_cannot_share_a_folder(config: dict[str, Any]) -> None:
    def again(_: dict[str, Any]) -> None:
        with pytest.raises(DragomanError, match="Another run trains into"):
            train(config)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(config, listener=again)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the weights and the optimizer of a finished run."""
    found = [folder / "best/model.safetensors", *(folder / "checkpoint-9").rglob("*")]
    wanted = {str(path.relative_to(folder)): path for path in found if path.suffix in (".safetensors", ".distcp")}
    assert len(wanted) == 3
    return {name: path.read_bytes() for name, path in wanted.items()}


@pytest.mark.parametrize(
    ("kills", "world", "options"),
    [
        (2, 1, {}),
        pytest.param(200, 1, {}, marks=pytest.mark.nightly),
        pytest.param(60, 2, {}, marks=pytest.mark.nightly),
        pytest.param(60, 2, {"fsdp": "shard_grad_op"}, marks=pytest.mark.nightly),
    ],
)
def test_killed_runs_end_as_the_uninterrupted_one(
    config: dict[str, Any], tmp_path: Path, kills: int, world: int, options: dict[str, Any], start_all: Any
) -> None:
    """`kill -9` at random instants, every fourth while a checkpoint is written; there is one after every step."""
    path, random = tmp_path / "config.json", np.random.default_rng(kills)
    path.write_text(json.dumps(changed(config, training={"save_steps": 1, **options})))  # JSON is YAML

    def begin(folder: Path) -> Any:
        words = ["train", str(path), "--resume", "--set", f"training.output_dir={folder}"]
        code = f"from dragoman.cli import main; sys.exit(main({words!r}))"
        return start_all(code, tmp_path / "output.txt", world)

    def finish(folder: Path) -> dict[str, bytes]:
        for process in begin(folder):
            process.join()
            assert process.exitcode == 0, (tmp_path / "output.txt").read_text()
        return files_of(folder)

    expected, folder = finish(tmp_path / "whole"), tmp_path / "run"
    log, saves = folder / "log.jsonl", 0
    for done in range(1, kills + 1):
        size = log.stat().st_size if log.exists() else 0
        processes = begin(folder)
        while processes[0].is_alive() and (log.stat().st_size if log.exists() else 0) <= size:
            time.sleep(0.01)
        if done % 4 == 0:
            while processes[0].is_alive() and not any(folder.glob(".dragoman-checkpoint-*")):
                time.sleep(0.0005)
        else:
            time.sleep(random.uniform(0, 0.3))
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        saves += any(folder.glob(".dragoman-checkpoint-*"))
        SpeechEncoderDecoderModel.from_pretrained(folder / "best")
        if (folder / "checkpoint-9").is_dir() and done < kills:  # the run has ended: kill another one
            assert finish(folder) == expected
            shutil.rmtree(folder)
    assert finish(folder) == expected
    print(f"{kills} kills, {saves} of them during a save")
    assert saves >= kills // 8


@pytest.mark.slow
def test_a_tiny_model_learns_its_data_by_the_command(
    checkpoints: tuple[Path, Path], manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """32 utterances to a word error rate of 0."""
    words = ["--encoder", checkpoints[0], "--decoder", checkpoints[1], "--train", manifest, "--valid", manifest]
    options = {
        "training.max_steps": 240,
        "training.save_steps": 240,
        "training.learning_rate": 6e-3,
        "training.lr_scheduler_type": "cosine",
        "training.weight_decay": 0,
        "data.seconds_per_batch": 16,
        "model.fields": json.dumps(STILL),
    }
    changes = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    begin = time.process_time()
    assert main([str(word) for word in ["train", *words, "-o", tmp_path / "run", *changes]]) == 0
    assert time.process_time() - begin < 180
    assert "wer 0," in capsys.readouterr().out
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "run/best")
    processor = AutoProcessor.from_pretrained(tmp_path / "run/best")
    import soundfile

    wave, _ = soundfile.read(manifest.parent / "0.wav", dtype="float32")
    ids = model.generate(**processor(wave, sampling_rate=16_000, return_tensors="pt"), max_new_tokens=10)
    text = processor.batch_decode(ids, skip_special_tokens=True)[0]
    assert text == json.loads(manifest.read_text().splitlines()[0])["text"]


def test_without_a_validation_set_the_newest_model_is_kept(config: dict[str, Any]) -> None:
    config = changed(config, data={"valid": None}, training={"max_steps": 2})
    result = train(Config.from_dict(config))
    assert result.metrics is None
    start = SpeechEncoderDecoderModel.from_pretrained(result.folder)
    assert "no validation set" in (result.folder / "README.md").read_text()
    assert all(tensor.isfinite().all() for tensor in start.parameters())


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("training", {"bf16": True, "gradient_checkpointing": True}),
        ("training", {"fp16": True}),
        ("training", {"ctc_weight": 0.3, "label_smoothing_factor": 0.1}),
        ("training", {"ema_decay": 0.9, "layerwise_lr_decay": 0.8}),
        ("model", {"lora_rank": 2, "lora_targets": ["q_proj"], "freeze_encoder": True}),
        ("model", {"freeze_encoder": True, "unfreeze_encoder_step": 3, "freeze_feature_encoder": True}),
    ],
    ids=["bf16", "fp16", "ctc", "ema", "lora", "unfreezing"],
)
def test_options_survive_a_restart_exactly(config: dict[str, Any], tmp_path: Path, part: str, options: Any) -> None:
    config = changed(config, training={"max_steps": 5, "save_steps": 2}, evaluation={"predict_with_generate": False})
    config[part].update(options)
    whole = changed(config, training={"output_dir": str(tmp_path / "whole")})
    train(whole)

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 2 and "loss" in record:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(config, listener=stop).step == 2
    train(config, resume=True)
    for name in ("best/model.safetensors", "checkpoint-5/weights.safetensors", "checkpoint-5/optimizer.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_generator_of_the_caller_is_left_alone(config: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    train(changed(config, training={"max_steps": 1}, evaluation={"predict_with_generate": False}))
    assert torch.get_rng_state().equal(before)


def test_a_teacher_teaches_and_the_run_continues_exactly(config: dict[str, Any], tmp_path: Path) -> None:
    """The teacher is a model that was trained before, with the same tokenizer and features."""
    quiet = {"evaluation": {"predict_with_generate": False}}
    teacher = train(changed(config, training={"max_steps": 1, "output_dir": str(tmp_path / "teacher")}, **quiet)).folder
    config = changed(config, training={"max_steps": 4, "save_steps": 2}, model={"teacher": str(teacher)}, **quiet)
    for name, weight in ("whole", 0.5), ("other", 0.9):
        train(changed(config, training={"output_dir": str(tmp_path / name), "distillation_weight": weight}))
    first, other = (json.loads((tmp_path / n / "log.jsonl").read_text().splitlines()[0]) for n in ("whole", "other"))
    assert first["loss"] != pytest.approx(other["loss"], rel=1e-3)

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 2 and "loss" in record:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(config, listener=stop).step == 2
    train(config, resume=True)
    for name in ("best/model.safetensors", "checkpoint-4/weights.safetensors", "checkpoint-4/optimizer.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_teacher_must_have_the_same_tokens_and_features(config: dict[str, Any], tmp_path: Path) -> None:
    brief = {"max_steps": 1, "output_dir": str(tmp_path / "teacher")}
    teacher = train(changed(config, training=brief, evaluation={"predict_with_generate": False})).folder
    settings = json.loads((teacher / "preprocessor_config.json").read_text())
    (teacher / "preprocessor_config.json").write_text(json.dumps({**settings, "do_normalize": False}))
    config = changed(config, model={"teacher": str(teacher)})
    with pytest.raises(ConfigError, match=r"takes other features .* \(do_normalize of preprocessor_config.json\)"):
        train(config)
    (teacher / "preprocessor_config.json").write_text(json.dumps(settings))
    for name in ("vocab.txt", "tokenizer.json"):
        if (teacher / name).exists():
            text = (teacher / name).read_text()
            (teacher / name).write_text(text.replace("##z", "##zz"))
    with pytest.raises(ConfigError, match="has another vocabulary than the model that learns"):
        train(changed(config, training={"output_dir": str(tmp_path / "again")}))
    with pytest.raises(ConfigError, match=r"`model.teacher` needs `model.backend: torch`"):
        train(changed(config, model={"backend": "jax"}, training={"output_dir": str(tmp_path / "jax")}))


def test_checkpoints_are_averaged(config: dict[str, Any], tmp_path: Path, caplog: Any) -> None:
    options = {"max_steps": 8, "save_steps": 2, "save_total_limit": 4}
    config = changed(config, training=options, evaluation={"predict_with_generate": False})
    run = train(config).folder.parent
    (run / "checkpoint-6/weights.safetensors").write_bytes(b"damaged")
    used = average(run, tmp_path / "mean", last=2)
    assert [path.name for path in used] == ["checkpoint-8", "checkpoint-4"]
    assert "checkpoint-6 is damaged" in caplog.text
    found = own_tensors(SpeechEncoderDecoderModel.from_pretrained(tmp_path / "mean"))
    files = [load_file(path / "weights.safetensors") for path in used]
    for name, tensor in found.items():
        assert torch.allclose(tensor, (files[0][name] + files[1][name]) / 2, atol=1e-7), name
    AutoProcessor.from_pretrained(tmp_path / "mean")
    shutil.rmtree(run / "checkpoint-8")
    shutil.rmtree(run / "checkpoint-4")
    with pytest.raises(ConfigError, match="has 1 checkpoint to average, but 2 or more are needed"):
        average(run, tmp_path / "other")
