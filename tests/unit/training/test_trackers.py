"""Trackers get what the log has."""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dragoman import ConfigError, MissingDependencyError
from dragoman.training import trackers, train
from dragoman.training.config import TRACKER_NAMES


def test_tensorboard_has_every_figure_of_the_log(config: dict[str, Any]) -> None:
    folder = Path(config["training"]["output_dir"])
    config["training"] |= {"report_to": ["tensorboard"], "max_steps": 4, "eval_steps": 2}
    seen: list[dict[str, Any]] = []
    train(config, listener=seen.append)
    found = EventAccumulator(str(folder / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(seen) == len(lines) == 6
    for tag, name in (("train/loss", "loss"), ("train/padding", "padding"), ("eval/wer", "eval_wer")):
        written = [(e.step, float(e.tensor_proto.float_val[0])) for e in found.Tensors(tag)]
        assert written == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line]


def test_names_are_checked(config: dict[str, Any]) -> None:
    assert set(TRACKER_NAMES) == trackers.TRACKERS.keys()
    config["training"]["report_to"] = ["tensorbord"]
    with pytest.raises(ConfigError, match=r"mean .?tensorboard"):
        train(config)


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_named_before_training(config: dict[str, Any], name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    config["training"]["report_to"] = [name]
    with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
        train(config)
    assert not (Path(config["training"]["output_dir"]) / "log.jsonl").exists()


def test_a_tracker_that_fails_does_not_stop_training(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(self: Any, figures: Any, step: int) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(trackers.TensorBoard, "log", fail)
    config["training"] |= {"report_to": ["tensorboard"], "max_steps": 2}
    with caplog.at_level(logging.WARNING, "dragoman"):
        assert train(config).step == 2
    assert caplog.text.count("the network is down") == 1
