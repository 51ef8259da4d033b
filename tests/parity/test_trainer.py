"""The trainers of `transformers`: accumulation, label smoothing, generation, resuming, scripts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import tokenizers
import torch
import transformers

from dragoman import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    GenerationError,
    ModelNotFoundError,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from dragoman.testing import tiny_config
from dragoman.text.tokenizer import Tokenizer

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
    """Clips with labels of different lengths, so that a mean over batches is not a mean over labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, 99, (count, 6), generator=generator)
    counts = torch.arange(count) % 6 < torch.arange(6)[:, None]
    waves = torch.randn(count, 800, generator=generator)
    return [{"input_values": waves[i], "labels": labels[i].masked_fill(counts[:, i], -100)} for i in range(count)]


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def collate_with_tokens(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As `DataCollatorForSeq2Seq`: a trainer with label smoothing does not pass labels to the model."""
    batch = collate(rows)
    return batch | {"decoder_input_ids": build().prepare_decoder_input_ids_from_labels(batch["labels"])}


def processor() -> Wav2Vec2Processor:
    names = ["[UNK]", "[PAD]", "[SEP]", "[CLS]", *(f"w{i}" for i in range(4, 99))]
    words = tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    roles = {"pad_token": "[PAD]", "eos_token": "[SEP]", "cls_token": "[CLS]"}
    return Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Tokenizer(tokenizers.Tokenizer(words), roles))


def train(
    folder: Path,
    trainer: type[Any],
    arguments: type[Any],
    collator: Any = collate,
    *,
    resume: Path | None = None,
    compute_metrics: Any = None,
    **options: Any,
) -> Any:
    settings = arguments(
        output_dir=folder, report_to=[], disable_tqdm=True, use_cpu=True, learning_rate=0.1,
        optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, **{"max_steps": 2, **options},
    )  # fmt: skip
    done = trainer(
        model=build(), args=settings, train_dataset=clips(8), eval_dataset=clips(4), data_collator=collator,
        compute_metrics=compute_metrics, processing_class=processor(),
    )  # fmt: skip
    done._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(range(8))
    done.train(resume_from_checkpoint=resume)
    return done


def test_accumulated_batches_equal_one_batch(tmp_path: Path) -> None:
    """In `transformers`, which ignores `num_items_in_batch`, the gradient grows with the number of batches."""
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


def test_label_smoothing_and_gradient_checkpointing(tmp_path: Path) -> None:
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


SEQ2SEQ = transformers.Seq2SeqTrainer, transformers.Seq2SeqTrainingArguments
PLAIN = transformers.Trainer, transformers.TrainingArguments
TEXTS = {"predict_with_generate": True, "per_device_eval_batch_size": 2}


def count_words(prediction: Any) -> dict[str, float]:
    """Decode as scripts with a Seq2SeqTrainer do."""
    ids, labels = (np.where(x == -100, 1, x) for x in (prediction.predictions, prediction.label_ids))
    texts, targets = (processor().batch_decode(x, skip_special_tokens=True) for x in (ids, labels))
    assert len(texts) == len(targets) == len(ids)
    assert all(word.startswith("w") for text in texts for word in text.split())
    return {"words": float(np.mean([len(text.split()) for text in texts]))}


@pytest.mark.parametrize("kind", ["arguments", "options", "folder"])
def test_predict_with_generate(tmp_path: Path, kind: str) -> None:
    options = transformers.GenerationConfig(max_new_tokens=5, num_beams=2)
    options.save_pretrained(tmp_path / "options")
    chosen: dict[str, Any] = {"generation_max_length": 6, "generation_num_beams": 2}
    if kind != "arguments":
        chosen = {"generation_config": options if kind == "options" else str(tmp_path / "options")}
    often = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "metric_for_best_model": "words"}
    done = train(
        tmp_path, *SEQ2SEQ, **TEXTS, **often, **chosen, load_best_model_at_end=True, compute_metrics=count_words
    )
    assert done.state.best_model_checkpoint is not None
    own = done.model.generation_config
    assert type(own) is GenerationConfig
    predicted = done.predict(clips(3))
    waves = torch.stack([row["input_values"] for row in clips(3)])
    again = done.model.generate(waves, max_new_tokens=5, num_beams=2).numpy()
    assert np.array_equal(predicted.predictions[:, : again.shape[1]], again)
    assert predicted.metrics["test_words"] == done.evaluate(clips(3))["eval_words"]
    assert done.predict(clips(3), max_length=4).predictions.shape[1] in (
        4,
        6,
    )  # `transformers` pads to the length in the options
    done.model.save_pretrained(tmp_path / "saved")
    saved = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "saved").generation_config
    assert saved.to_dict() == own.to_dict()
    assert own.eos_token_id == done.model.config.eos_token_id == 2


def test_evaluation_does_not_shorten_later_sequences(tmp_path: Path) -> None:
    """`transformers` sets its default of 20 tokens on the model, which cuts off later sequences."""
    fresh, wave = build().eval(), clips(1)[0]["input_values"][None]
    expected = fresh.generate(wave)
    assert expected.shape[1] > 20
    settings = transformers.Seq2SeqTrainingArguments(output_dir=tmp_path, report_to=[], use_cpu=True, **TEXTS)
    trainer = transformers.Seq2SeqTrainer(model=fresh, args=settings, eval_dataset=clips(2), data_collator=collate)
    assert trainer.predict(clips(2)).predictions.shape == (2, expected.shape[1])
    assert torch.equal(fresh.generate(wave), expected)


def test_training_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", *PLAIN, max_steps=4, per_device_train_batch_size=2, save_steps=2)
    rest = train(
        tmp_path / "rest", *PLAIN, max_steps=4, per_device_train_batch_size=2, resume=tmp_path / "whole/checkpoint-2"
    )
    assert rest.state.global_step == 4
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(rest.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "options",
    [
        {"bf16": True, "bf16_full_eval": True},
        {"fp16_full_eval": True},
        {"train_sampling_strategy": "group_by_length", "push_to_hub": False},
        {"neftune_noise_alpha": 5.0, "include_num_input_tokens_seen": "all"},
    ],
)
def test_training_options(tmp_path: Path, options: dict[str, Any]) -> None:
    done = train(tmp_path, *PLAIN, **options)
    assert 3.0 < done.evaluate()["eval_loss"] < 6.0
    assert [x.shape[0] for x in done.predict(clips(3)).predictions] == [3, 3]


def test_trainer_folder_with_a_configuration_can_be_loaded(tmp_path: Path) -> None:
    """For models of other libraries, a trainer writes the tensors only; `test_trainer_folders` compares them."""
    done = train(tmp_path, *PLAIN, save_steps=2)
    folder = tmp_path / "checkpoint-2"
    with pytest.raises(
        ModelNotFoundError, match=r"`transformers` Trainer, .* model\.config\.save_pretrained\(folder\)"
    ):
        SpeechEncoderDecoderModel.from_pretrained(folder)
    done.model.config.save_pretrained(folder)
    again = SpeechEncoderDecoderModel.from_pretrained(folder)
    for name, tensor in done.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    half = SpeechEncoderDecoderModel.from_pretrained(folder, dtype="float16")
    assert {tensor.dtype for tensor in half.parameters()} == {torch.float16}
    assert half.config.dtype == "float16"


@dataclass
class Collator:
    """As in the scripts of `transformers`."""

    processor: Any
    decoder_start_token_id: int

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        name = self.processor.feature_extractor.model_input_names[0]
        batch = self.processor.feature_extractor.pad(
            [{name: feature[name]} for feature in features], return_tensors="pt"
        )
        texts = self.processor.tokenizer.pad(
            [{"input_ids": feature["labels"]} for feature in features], return_tensors="pt"
        )
        labels = texts["input_ids"].masked_fill(texts.attention_mask.ne(1), -100)
        if (labels[:, 0] == self.decoder_start_token_id).all().cpu().item():
            labels = labels[:, 1:]
        batch["labels"] = labels
        return batch


def test_training_script_of_transformers(tmp_path: Path) -> None:
    """The steps in order: parts, special ids, saved processor, a map, training, evaluation, the saved folder."""
    build().save_pretrained(tmp_path / "start")
    processor().save_pretrained(tmp_path / "start")
    config = AutoConfig.from_pretrained(tmp_path / "start", revision="main", token=None, trust_remote_code=False)
    config.update({"forced_decoder_ids": None, "suppress_tokens": [5]})
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "start", trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "start", use_fast=True)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "start", config=config, attn_implementation="sdpa")
    assert model.config.decoder_start_token_id == 3
    model.freeze_feature_encoder()

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        inputs = extractor(row["audio"], sampling_rate=16_000, return_attention_mask=False)
        name = extractor.model_input_names[0]
        return {
            name: inputs.get(name)[0],
            "input_length": len(row["audio"]),
            "labels": tokenizer(row["text"]).input_ids,
        }

    rng = np.random.default_rng(0)
    audio = [rng.standard_normal(800 + 40 * i).astype(np.float32) for i in range(4)]
    data = [prepare({"audio": wave, "text": " ".join(f"w{9 + i}" for i in range(2 + len(wave) % 3))}) for wave in audio]
    out = tmp_path / "out"
    for part in (extractor, tokenizer, config):
        part.save_pretrained(out)
    own = AutoProcessor.from_pretrained(out)
    arguments = transformers.Seq2SeqTrainingArguments(
        output_dir=out, max_steps=2, per_device_train_batch_size=2, report_to=[], disable_tqdm=True, use_cpu=True,
        predict_with_generate=True, generation_max_length=8, generation_num_beams=2,
    )  # fmt: skip
    trainer = transformers.Seq2SeqTrainer(
        model=model, args=arguments, train_dataset=data, eval_dataset=data, processing_class=extractor,
        data_collator=Collator(own, model.config.decoder_start_token_id), compute_metrics=count_words,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    assert trainer.evaluate(metric_key_prefix="eval")["eval_words"] >= 0
    trainer.create_model_card(finetuned_from="start", tasks="automatic-speech-recognition")
    again = SpeechEncoderDecoderModel.from_pretrained(out)
    waves = torch.from_numpy(audio[0])[None]
    expected = model.generate(waves, max_length=8)
    assert again.generation_config.suppress_tokens == model.config.suppress_tokens == [5]
    assert torch.equal(again.generate(waves, max_length=8), expected)


def test_sharded_generation_is_refused() -> None:
    waves, model = clips(1)[0]["input_values"][None], build().eval()
    with pytest.raises(GenerationError, match="`synced_gpus` is not supported"):
        model.generate(waves, synced_gpus=True)
    with pytest.raises(GenerationError, match="`decoder_input_ids`, which are not given"):
        model.generate(waves, decoder_attention_mask=torch.tensor([[0, 1]]))


def test_accelerate(tmp_path: Path) -> None:
    helper, model = accelerate.Accelerator(cpu=True), build().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = helper.prepare(model, optimizer)
    with helper.accumulate(model):
        helper.backward(model(**collate(clips(2))).loss)
        helper.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    whole = helper.unwrap_model(model)
    whole.save_pretrained(
        tmp_path / "saved",
        is_main_process=helper.is_main_process,
        save_function=helper.save,
        state_dict=helper.get_state_dict(model),
    )
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "saved")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    helper.save_state(str(tmp_path / "state"))
    helper.load_state(str(tmp_path / "state"))
