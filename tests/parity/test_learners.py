"""Training in JAX takes the steps of training in PyTorch, and continues from its checkpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import (
    ConfigError,
    FlaxSpeechEncoderDecoderModel,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
)
from dragoman.jax.learner import Learner as JaxLearner
from dragoman.jax.processes import Processes as JaxProcesses
from dragoman.model.learning import Freezing, LearnerOptions, Rates
from dragoman.testing import tiny_config
from dragoman.torch.learner import Learner
from dragoman.torch.processes import Processes

STEPS = 20
RATES = Rates(new=1e-3, encoder=3e-4, decoder=1e-4, layer_decay=0.5, weight_decay=0.1)


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def build(path: Path, **layers: int) -> Path:
    torch.manual_seed(0)
    ids = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    names = ("layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
    encoder = tiny_config("wav2vec2", apply_spec_augment=False, **dict.fromkeys(names, 0.0), **layers)
    config = SpeechEncoderDecoderConfig(encoder=encoder, decoder=tiny_config("bert", **still, **layers), **ids)
    SpeechEncoderDecoderModel(config=config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "start")


def batches(number: int) -> list[dict[str, np.ndarray]]:
    """Two batches of different rows and lengths."""
    random, found = np.random.default_rng(number), []
    for rows, samples in ((2, 800), (3, 760)):
        mask = np.ones((rows, samples), np.int64)
        mask[0, samples - 100 :] = 0
        waves = random.standard_normal((rows, samples)).astype(np.float32) * mask.astype(np.float32)
        labels = random.integers(4, 99, (rows, 5))
        labels[0, 3:] = -100
        found.append({"input_values": waves, "attention_mask": mask, "labels": labels})
    return found


def in_torch(folder: Path, **options: Any) -> Learner:
    model = SpeechEncoderDecoderModel.from_pretrained(folder)
    return Learner(model, LearnerOptions(rates=RATES, **options), Processes(use_cpu=True))


def in_jax(folder: Path, **options: Any) -> JaxLearner:
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
    return JaxLearner(model, LearnerOptions(rates=RATES, **options), JaxProcesses())


def test_twenty_steps_agree_and_checkpoints_are_exchanged(folder: Path, tmp_path: Path) -> None:
    """Rates by layer, weight decay, clipping, batches of different shapes; then each continues from the other."""
    options = {"max_grad_norm": 0.7, "label_smoothing": 0.1, "betas": (0.9, 0.98)}
    one, other = in_torch(folder, **options), in_jax(folder, **options)
    for number in range(STEPS):
        given = batches(number)
        ours, theirs = (learner.step(given, number, min(1.0, number / 5)) for learner in (one, other))
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-4), number
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3), number
        assert ours.tokens == theirs.tokens
        assert not theirs.skipped
    with one.evaluating(), other.evaluating():
        for name, tensor in one.model.named_parameters():
            expected = np.asarray(_leaf(other.model.tree, name))
            np.testing.assert_allclose(tensor.detach().numpy(), expected, atol=1e-4, err_msg=name)
        part = batches(99)[0]
        assert one.loss(part)[0] == pytest.approx(other.loss(part)[0], rel=1e-4)
        assert one.loss(part)[1] == other.loss(part)[1] == 8
        assert one.transcribe(part, max_new_tokens=4) == other.transcribe(part, max_new_tokens=4)
    for learner, name in ((one, "torch"), (other, "jax")):
        learner.write_weights(tmp_path / f"{name}.w")
        learner.write_optimizer(tmp_path / f"{name}.o")
    one.restore(tmp_path / "jax.w", tmp_path / "jax.o")
    other.restore(tmp_path / "torch.w", tmp_path / "torch.o")
    ours, theirs = (learner.step(batches(STEPS), STEPS, 1.0) for learner in (one, other))
    assert ours.loss == pytest.approx(theirs.loss, abs=1e-4)


def _leaf(tree: Any, name: str) -> Any:
    for word in name.split("."):
        tree = tree[word]
    return tree


def test_a_restart_is_exact_and_nan_changes_nothing(tmp_path: Path) -> None:
    """With a frozen encoder, whose parameters have no state of the optimizer; of one layer, which compiles sooner."""
    folder = build(tmp_path / "start", num_hidden_layers=1)
    freezing = Freezing(encoder=True)
    one = in_jax(folder, freezing=freezing)
    one.step(batches(0), 0, 1.0)
    one.write_weights(tmp_path / "w")
    one.write_optimizer(tmp_path / "o")
    expected = one.step(batches(1), 1, 0.5)
    one.write_weights(tmp_path / "after")
    again = in_jax(folder, freezing=freezing)
    again.restore(tmp_path / "w", tmp_path / "o")
    assert again.step(batches(1), 1, 0.5) == expected
    again.write_weights(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "after").read_bytes()
    spoiled = batches(2)
    spoiled[0]["input_values"][0, :10] = 3e38
    result = again.step(spoiled, 2, 1.0)
    assert result.skipped
    again.write_weights(tmp_path / "spoiled")
    assert (tmp_path / "spoiled").read_bytes() == (tmp_path / "after").read_bytes()


def test_what_is_only_for_pytorch_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"`training.ctc_weight` needs `model.backend: torch`"):
        in_jax(folder, ctc_weight=0.5)
