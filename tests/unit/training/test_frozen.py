"""Kept states of a frozen encoder, and alignment of the bridge: equal to what they replace, and resumed exactly."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from dragoman import ConfigError, SpeechEncoder, WhisperFeatureExtractor
from dragoman.model.encoder_states import EncoderStates, StateOptions, clips_of
from dragoman.model.learning import Freezing, LearnerOptions, Rates
from dragoman.testing import tiny_config
from dragoman.torch.aligning import BridgeAlignment
from dragoman.training import train
from dragoman.training.start import join

from .conftest import write_text_model

QUIET = {
    "encoder_apply_spec_augment": False,
    "encoder_layerdrop": 0.0,
    **{f"encoder_{name}dropout": 0.0 for name in ("hidden_", "attention_", "activation_", "feat_proj_")},
}
PREFIX = {"fusion": "prefix", "fusion_stacking": 2}


@pytest.fixture
def speech(request: pytest.FixtureRequest, checkpoints: tuple[Path, Path], tmp_path: Path) -> Path:
    """An encoder that ignores padding, or one that reads it."""
    if request.param == "wav2vec2":
        return checkpoints[0]
    torch.manual_seed(0)
    SpeechEncoder(tiny_config("whisper", max_source_positions=50)).save_pretrained(tmp_path / "speech")
    WhisperFeatureExtractor(chunk_length=1, feature_size=8).save_pretrained(tmp_path / "speech")
    return tmp_path / "speech"


def frozen(config: dict[str, Any], speech: Path, **training: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    is_whisper = json.loads((speech / "config.json").read_text())["model_type"] == "whisper"
    config["model"] |= {"encoder": str(speech), "freeze_encoder": True, "fields": {} if is_whisper else dict(QUIET)}
    config["data"]["noise_probability"] = 0.0
    config["training"] |= training
    return config


def losses_of(config: dict[str, Any], folder: Path, **training: Any) -> list[float]:
    config = copy.deepcopy(config)
    config["training"] |= {"output_dir": str(folder), **training}
    train(config)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line.get("loss", line.get("eval_loss")) for line in lines]


@pytest.mark.parametrize("speech", ["wav2vec2", "whisper"], indirect=True)
def test_kept_states_change_nothing(config: dict[str, Any], speech: Path, tmp_path: Path) -> None:
    """Every step and evaluation, at three speeds; a second run finds all states and encodes nothing."""
    config = frozen(config, speech)
    without = losses_of(config, tmp_path / "without")
    kept = {"cache_encoder_states": "float32", "encoder_states_dir": str(tmp_path / "states")}
    first = losses_of(config, tmp_path / "first", **kept)
    assert first == pytest.approx(without, abs=1e-5)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "states").glob("*/*")}
    assert len(files) > 32
    assert losses_of(config, tmp_path / "second", **kept) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "states").glob("*/*")} == files
    halves = losses_of(config, tmp_path / "halves", **kept | {"cache_encoder_states": "float16"})
    assert halves != first
    assert halves == pytest.approx(first, abs=1e-2)


def test_a_run_with_kept_states_and_alignment_continues_exactly(
    config: dict[str, Any], checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    """From a step of alignment, from the first step after it, and from a later one; its states may have gone."""
    config = frozen(config, checkpoints[0], cache_encoder_states="float32", align_steps=4, ema_decay=0.9)
    config["model"]["fields"] |= PREFIX
    config["training"] |= {"save_steps": 1, "save_total_limit": 20}
    whole = Path(config["training"]["output_dir"])
    train(config)
    last = "checkpoint-9/weights.safetensors"
    for step in (2, 4, 6):
        config["training"]["output_dir"] = str(tmp_path / f"from-{step}")
        folder = Path(config["training"]["output_dir"])
        folder.mkdir()
        (folder / "best").symlink_to(whole / "best")
        (folder / f"checkpoint-{step}").symlink_to(whole / f"checkpoint-{step}")
        train(config, resume=True)
        assert (folder / last).read_bytes() == (whole / last).read_bytes()


def test_alignment_trains_the_bridge_alone_and_makes_speech_like_its_tokens(
    config: dict[str, Any], checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    config = frozen(config, checkpoints[0], align_steps=40, max_steps=41, align_learning_rate=1e-2, save_steps=40)
    config["model"]["fields"] |= PREFIX
    config["data"]["speed_perturbation"] = [1.0]
    train(config)
    folder = Path(config["training"]["output_dir"])
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["learning_rate"] for line in steps[:40]] == [1e-2] * 40
    assert np.mean([line["loss"] for line in steps[35:40]]) < 0.9 * np.mean([line["loss"] for line in steps[:5]])
    assert [line["step"] for line in lines if "eval_loss" in line] == [41]
    start, _ = join(*checkpoints, fields={**QUIET, **PREFIX})
    own = dict(torch.nn.Module.named_parameters(start))
    from safetensors.torch import load_file

    weights = load_file(folder / "checkpoint-40/weights.safetensors")
    moved = {name for name, tensor in own.items() if not torch.equal(weights[name], tensor)}
    assert moved == {name for name in own if name.startswith("bridge.")}


@pytest.mark.parametrize("prompt", [[[], []], [[5], [6, 7]]])
def test_the_loss_of_alignment_is_that_of_ctc_on_embeddings(
    checkpoints: tuple[Path, Path], prompt: list[list[int]]
) -> None:
    """Row by row over the whole vocabulary, with PyTorch's CTC; the blank is the prompt's last token, or padding."""
    model, _ = join(*checkpoints, fields={**PREFIX, "fusion_prompt": prompt})
    model.eval()
    random = np.random.default_rng(0)
    waves = torch.from_numpy(random.standard_normal((2, 4000)).astype(np.float32))
    mask = torch.ones(2, 4000, dtype=torch.long)
    mask[1, 2500:] = 0
    labels = torch.tensor([[8, 9, 8, 3], [10, 3, -100, -100]])  # each ends with [SEP]
    with torch.no_grad():
        encoded = model.encode(waves, mask)
        found = BridgeAlignment(model, range(model.decoder.spec.vocab_size))(encoded, labels)
        table = model.decoder.get_input_embeddings().weight
        expected, blank = 0.0, prompt[1][-1] if prompt[1] else 0
        others = [token for token in range(len(table)) if token != 3]  # the end is never scored
        for row in range(2):
            alone = model.encode(waves[row : row + 1, : mask[row].sum()], mask[row : row + 1, : mask[row].sum()])
            speech, _ = model.bridge.project(alone.last_hidden_state, None)
            scores = (speech @ table[others].T).log_softmax(-1).transpose(0, 1)
            text = [others.index(token) for token in labels[row].tolist() if token not in (3, -100)]
            expected += F.ctc_loss(
                scores, torch.tensor([text]), [scores.shape[0]], [len(text)], blank=others.index(blank), reduction="sum"
            ).item()
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_folder_does_not_outgrow_its_limit(tmp_path: Path, caplog: Any) -> None:
    states = np.ones((10, 4), np.float32)
    kept = EncoderStates(StateOptions(folder=tmp_path, max_bytes=700), "encoder")
    with caplog.at_level(logging.WARNING, "dragoman"):
        for number in range(4):
            kept.write(kept.key(np.full(5, number, np.float32)), states)
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 700
    assert len(list(tmp_path.glob("*/*.npy"))) == 2
    assert len(caplog.records) == 1
    assert "keeps no more encoder states" in caplog.text
    again = EncoderStates(StateOptions(folder=tmp_path, max_bytes=700), "encoder")  # counts what is there
    again.write(again.key(np.full(5, 9, np.float32)), states)
    assert len(list(tmp_path.glob("*/*.npy"))) == 2


def test_entries_follow_content_encoder_and_type_and_damage_is_a_miss(tmp_path: Path) -> None:
    clip, states = np.arange(6, dtype=np.float32), np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    kept = EncoderStates(StateOptions(folder=tmp_path), "a")
    kept.write(kept.key(clip), states)
    assert np.array_equal(kept.read(kept.key(clip)), states)
    half = EncoderStates(StateOptions(folder=tmp_path, dtype="float16"), "a")
    others = [kept.key(clip + 1), kept.key(clip.reshape(2, 3)), half.key(clip)]
    others.append(EncoderStates(StateOptions(folder=tmp_path), "b").key(clip))
    assert [kept.read(key) for key in others] == [None] * 4
    half.write(half.key(clip), states)
    assert np.array_equal(half.read(half.key(clip)), half.rounded(states))
    (path,) = [p for p in tmp_path.glob("*/*.npy") if p.stem == kept.key(clip)[2:]]
    path.write_bytes(path.read_bytes()[:-3])
    assert kept.read(kept.key(clip)) is None


def test_padding_is_part_of_a_clip_only_where_the_encoder_reads_it() -> None:
    part = {"input_values": np.ones((2, 6)), "attention_mask": np.array([[1] * 6, [1] * 4 + [0] * 2]), "labels": None}
    assert [len(clip) for clip in clips_of(part, time_axis=1, masked=True)] == [6, 4]
    assert [len(clip) for clip in clips_of(part, time_axis=1, masked=False)] == [6, 6]


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("model", "freeze_encoder", False, "stays frozen"),
        ("model", "unfreeze_encoder_step", 3, "stays frozen"),
        ("data", "noise_probability", 0.5, "noise is new in every epoch"),
        ("training", "ctc_weight", 0.3, "`training.ctc_weight`"),
        ("training", "align_steps", 9, "fewer than all steps"),
    ],
)
def test_what_excludes_each_other(
    config: dict[str, Any], checkpoints: tuple[Path, Path], part: str, name: str, value: Any, message: str
) -> None:
    config = frozen(config, checkpoints[0], cache_encoder_states="float32")
    config[part][name] = value
    with pytest.raises(ConfigError, match=message):
        train(config)


def test_a_bridge_without_weights_cannot_be_aligned(
    config: dict[str, Any], checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    width = tiny_config("wav2vec2").hidden_size
    text = write_text_model(tmp_path / "text", hidden_size=width, num_attention_heads=4)
    config = frozen(config, checkpoints[0], align_steps=2)
    config["model"]["decoder"] = str(text)
    with pytest.raises(ConfigError, match="the same width"):
        train(config)


def test_jax_refuses_both() -> None:
    from dragoman.jax.learner import Learner as JaxLearner

    options = LearnerOptions(
        rates=Rates(new=1, encoder=1, decoder=1), freezing=Freezing(), states=StateOptions(folder=Path("x"))
    )
    with pytest.raises(ConfigError, match=r"cache_encoder_states.*torch"):
        JaxLearner(None, options, None)  # type: ignore[arg-type]
