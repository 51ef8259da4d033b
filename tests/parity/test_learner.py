"""Steps of training equal those of the Trainer of `transformers` on the same batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.model.learning import LearnerOptions, Rates, has_decay
from dragoman.testing import tiny_config
from dragoman.torch.learner import Learner
from dragoman.torch.processes import Processes
from dragoman.training.schedules import rate_at, warmup_of

RATE, STEPS, PARTS = 0.01, 4, 3
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def build() -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    fields = dict.fromkeys(("layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    encoder = tiny_config("wav2vec2", apply_spec_augment=False, feat_proj_dropout=0.0, **fields)
    decoder = tiny_config("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ids = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
    return SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(encoder=encoder, decoder=decoder, **ids))


def batches() -> list[dict[str, np.ndarray]]:
    """Batches of two rows with 3 to 11 labels, so that a mean over batches is not a mean over labels."""
    random, found = np.random.default_rng(0), []
    for number in range(STEPS * PARTS):
        labels = random.integers(4, 99, (2, 6))
        labels[0, 1 + number % 5 :] = -100
        mask = np.ones((2, 800), np.int64)
        mask[0, 800 - 60 * (number % 4) :] = 0
        waves = random.standard_normal((2, 800)).astype(np.float32) * mask
        found.append({"input_values": waves.astype(np.float32), "attention_mask": mask, "labels": labels})
    return found


def theirs(folder: Path, **options: Any) -> tuple[SpeechEncoderDecoderModel, list[dict[str, Any]]]:
    rows = [{name: torch.from_numpy(array[i]) for name, array in b.items()} for b in batches() for i in range(2)]
    arguments = transformers.TrainingArguments(
        output_dir=folder, report_to=[], disable_tqdm=True, use_cpu=True, max_steps=STEPS, learning_rate=RATE,
        per_device_train_batch_size=2, gradient_accumulation_steps=PARTS, logging_steps=1, save_strategy="no",
        lr_scheduler_type="linear", **options,
    )  # fmt: skip

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    trainer = InOrder(model=build(), args=arguments, train_dataset=rows, data_collator=stacked)
    trainer.train()
    return trainer.model, [row for row in trainer.state.log_history if "grad_norm" in row]


def stacked(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("max_grad_norm", [0.5, 0.0])
def test_steps_equal_those_of_the_trainer(tmp_path: Path, weight_decay: float, max_grad_norm: float) -> None:
    """Loss, norm of the gradients, clipping, accumulation over uneven batches, warm-up, decay and AdamW."""
    expected, log = theirs(
        tmp_path, weight_decay=weight_decay, max_grad_norm=max_grad_norm or 1e9, warmup_steps=2, adam_beta2=0.98
    )
    rates = Rates(new=RATE, encoder=RATE, decoder=RATE, weight_decay=weight_decay)
    model = build()
    options = LearnerOptions(rates=rates, max_grad_norm=max_grad_norm, betas=(0.9, 0.98))
    learner, given = Learner(model, options, Processes(use_cpu=True)), batches()
    for number in range(STEPS):
        share = rate_at("linear", number, warmup=2, total=STEPS)
        result = learner.step(given[number * PARTS : (number + 1) * PARTS], number, share)
        assert result.loss == pytest.approx(log[number]["loss"], abs=1e-5)  # the log has five digits or more
        assert result.grad_norm == pytest.approx(log[number]["grad_norm"], rel=1e-5)
        assert share * RATE == pytest.approx(log[number]["learning_rate"], rel=1e-9)
    moved = build()
    for (name, mine), other, first in zip(
        model.named_parameters(), expected.parameters(), moved.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5, msg=name)
        assert name.endswith("mask_embed") or not torch.equal(mine, first), name


def test_gradients_equal_those_of_one_batch(tmp_path: Path) -> None:
    """However a step is cut into batches, the step is the same."""
    rates = Rates(new=RATE, encoder=RATE, decoder=RATE)
    given = batches()[:3]
    models = []
    joined = [{name: np.concatenate([batch[name] for batch in given]) for name in given[0]}]
    for parts in (given, joined):
        model = build()
        learner = Learner(model, LearnerOptions(rates=rates, max_grad_norm=1.0), Processes(use_cpu=True))
        result = learner.step(parts, 0, 1.0)
        models.append((result, model))
    (one, a), (other, b) = models
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
    assert a.num_parameters() == b.num_parameters()


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt"])
def test_schedules_equal_those_of_transformers(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = transformers.get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=30)
    for step in range(30):
        assert rate_at(name, step, warmup=5, total=30) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("steps", "ratio", "expected"), [(7, 0.5, 7), (0, 0.1, 4), (0.25, 0.5, 8), (0, 0.0, 0)])
def test_warm_up(steps: float, ratio: float, expected: int) -> None:
    assert warmup_of(steps, ratio, 31) == expected


def test_norms_and_biases_have_no_weight_decay_as_in_the_trainer() -> None:
    from transformers.trainer_pt_utils import get_parameter_names

    model = build()
    patterns = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], patterns))
    names = {name for name, _ in model.named_parameters()}  # the trainer lists the table of a tied head twice
    assert decayed & names == {name for name in names if has_decay(name)}
