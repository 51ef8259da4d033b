"""The trainers of transformers take the model as it is: gradients accumulated, losses smoothed.

Not so `predict_with_generate`, which calls private methods of upstream's own GenerationConfig.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def build() -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    fields = {"apply_spec_augment": False, "layerdrop": 0.0, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    fields |= {"activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2", **fields), decoder=tiny_config("bert", **still), **IDS
    )
    return SpeechEncoderDecoderModel(config=config)


def clips(count: int) -> list[dict[str, torch.Tensor]]:
    """Clips with labels of unlike lengths, so that a mean over batches is not a mean over labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, 99, (count, 6), generator=generator)
    counts = torch.arange(count) % 6 < torch.arange(6)[:, None]
    waves = torch.randn(count, 800, generator=generator)
    return [{"input_values": waves[i], "labels": labels[i].masked_fill(counts[:, i], -100)} for i in range(count)]


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def collate_with_tokens(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As `DataCollatorForSeq2Seq` does: a trainer that smooths labels itself does not show them to the model."""
    batch = collate(rows)
    return batch | {"decoder_input_ids": build().prepare_decoder_input_ids_from_labels(batch["labels"])}


def train(folder: Path, trainer: type[Any], arguments: type[Any], collator: Any = collate, **options: Any) -> Any:
    settings = arguments(
        output_dir=folder, max_steps=2, report_to=[], disable_tqdm=True, use_cpu=True, learning_rate=0.1,
        optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, **options,
    )  # fmt: skip
    done = trainer(model=build(), args=settings, train_dataset=clips(8), eval_dataset=clips(4), data_collator=collator)
    done._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(range(8))
    done.train()
    return done


def test_accumulated_batches_are_one_batch(tmp_path: Path) -> None:
    """Upstream ignores `num_items_in_batch`, so there the gradient grows with the number of batches."""
    whole, parts = (
        train(
            tmp_path,
            transformers.Trainer,
            transformers.TrainingArguments,
            per_device_train_batch_size=4 // steps,
            gradient_accumulation_steps=steps,
        ).model
        for steps in (1, 4)
    )
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, atol=1e-6, rtol=1e-5, msg=name)
    assert not whole.bridge.proj.weight.equal(build().bridge.proj.weight)


def test_smoothing_and_checkpointing(tmp_path: Path) -> None:
    plain, saving = (
        train(
            tmp_path,
            transformers.Seq2SeqTrainer,
            transformers.Seq2SeqTrainingArguments,
            collate_with_tokens,
            label_smoothing_factor=0.1,
            save_steps=2,
            gradient_checkpointing=on,
        )
        for on in (False, True)
    )
    assert saving.model.is_gradient_checkpointing
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(saving.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5, msg=name)
    assert saving.evaluate()["eval_loss"] > 0
    assert (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
