"""Training programs: the official recognition script, `accelerate`, callbacks that freeze, averages of weights."""

import json
from pathlib import Path
from typing import Any

import accelerate
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

import dragoman

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Clips(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Waveforms and token ids, as the official script has them after its preprocessing."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> dict[str, Any]:
        audio = torch.randn(1600 + 40 * (row % 3), generator=torch.Generator().manual_seed(row))
        return {"input_values": audio.tolist(), "labels": [3, *range(5 + row % 4, 8 + row % 4), 2][: 4 + row % 2]}


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad audio and labels, and cut the start token, as the script's collator does."""
    audio = [torch.tensor(row["input_values"]) for row in rows]
    padded = nn.utils.rnn.pad_sequence(audio, batch_first=True)
    mask = torch.stack([(torch.arange(padded.shape[1]) < len(clip)).long() for clip in audio])
    labels = nn.utils.rnn.pad_sequence([torch.tensor(row["labels"]) for row in rows], True, -100)
    if (labels[:, 0] == 3).all():
        labels = labels[:, 1:]
    return {"input_values": padded, "attention_mask": mask, "labels": labels}


def test_the_official_recognition_script(pair: Any, same: Any, tmp_path: Path) -> None:
    """Configuration changed, front end frozen, a `Seq2SeqTrainer` with generation in its evaluation, and the folder."""
    found = []
    for library, loaded in pair("wav2vec2", "bart"):
        source, folder = tmp_path / "model", tmp_path / library.__name__
        config = library.AutoConfig.from_pretrained(source)
        config.update({"processor_class": "Wav2Vec2Processor"})
        config.encoder.update({"apply_spec_augment": False, "activation_dropout": 0.0, "attention_dropout": 0.0})
        for part in (config.encoder, config.decoder):
            for name in ("hidden_dropout", "feat_proj_dropout", "dropout", "attention_dropout"):
                if hasattr(part, name):
                    setattr(part, name, 0.0)
        model = library.AutoModelForSpeechSeq2Seq.from_pretrained(source, config=config)
        assert type(model) is type(loaded)
        if model.config.decoder_start_token_id is None:
            raise ValueError("no start token")
        model.freeze_feature_encoder()
        config.save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["processor_class"] == "Wav2Vec2Processor"
        model.generation_config.num_beams, model.generation_config.max_length = 2, 8

        def compute_metrics(prediction: Any) -> dict[str, float]:
            ids = prediction.label_ids
            ids[ids == -100] = 1
            return {"sum": float((prediction.predictions * (prediction.predictions != -100)).sum())}

        trainer = transformers.Seq2SeqTrainer(
            model=model,
            args=transformers.Seq2SeqTrainingArguments(
                output_dir=str(folder),
                per_device_train_batch_size=2,
                per_device_eval_batch_size=4,
                learning_rate=1e-3,
                weight_decay=0.1,
                max_steps=3,
                logging_steps=1,
                save_strategy="no",
                predict_with_generate=True,
                gradient_accumulation_steps=1,
                remove_unused_columns=False,
                report_to=[],
                seed=7,
                use_cpu=True,
            ),
            train_dataset=Clips(),
            eval_dataset=Clips(),
            data_collator=collate,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        measured = trainer.evaluate(max_length=8, num_beams=3)
        trainer.save_model()
        model.generation_config.save_pretrained(folder)  # a Trainer writes it only for models of `transformers`
        again = library.AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
        batch = collate([Clips()[0], Clips()[1]])
        found.append(
            (
                torch.tensor(losses),
                torch.tensor(measured["eval_loss"]),
                measured["eval_sum"],
                again(**batch).loss,
                again.generate(batch["input_values"], attention_mask=batch["attention_mask"], max_length=8).tolist(),
            )
        )
    same(found)
    opened = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path / dragoman.__name__).eval()
    same([found[1][3], opened(**collate([Clips()[0], Clips()[1]])).loss])


def test_a_loop_of_accelerate(pair: Any, same: Any) -> None:
    """Groups for the optimizer by names, gradient accumulation, clipping, unwrapping, the state dict of the wrapper."""
    found = []
    no_decay = ["bias", "LayerNorm.weight", "layer_norm.weight"]
    for _, model in pair("wav2vec2", "bert"):
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        named = list(model.named_parameters())
        groups = [
            {"params": [p for n, p in named if not any(part in n for part in no_decay)], "weight_decay": 0.5},
            {"params": [p for n, p in named if any(part in n for part in no_decay)], "weight_decay": 0.0},
        ]
        loader = torch.utils.data.DataLoader(Clips(), batch_size=2, collate_fn=collate)  # type: ignore[var-annotated]
        optimizer = torch.optim.SGD(groups, lr=0.01)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        losses = []
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(accelerator.gather(loss.detach()))
        plain = accelerator.unwrap_model(model)
        sizes = [sum(p.numel() for p in group["params"]) for group in groups]
        found.append((sizes, losses, sorted(accelerator.get_state_dict(plain)) == sorted(plain.state_dict())))
    same(found)


@pytest.mark.parametrize("decoder", ["gpt2", "bart"])
def test_a_callback_that_freezes_by_layer(pair: Any, same: Any, decoder: str) -> None:
    """Lower layers of the encoder and the old part of the decoder rest at first, chosen by names and their numbers."""
    found = []
    for _, model in pair("wav2vec2", decoder):
        for name, parameter in model.encoder.named_parameters():
            parameter.requires_grad = name.startswith("encoder.layers") and int(name.split(".")[2]) >= 1
        for name, parameter in model.decoder.named_parameters():
            parameter.requires_grad = "crossattention" in name or "encoder_attn" in name
        model.enc_to_dec_proj.weight.requires_grad = True
        first = sum(p.numel() for p in filter(lambda p: p.requires_grad, model.parameters()))
        for parameter in model.decoder.parameters():
            parameter.requires_grad = True
        found.append((first, model.num_parameters(only_trainable=True)))
    same(found)


def test_rates_that_fall_with_the_depth(pair: Any, speech: Any, labels: Any, same: Any) -> None:
    """The rate of a layer is looked up by the number in its parameters' names."""
    found = []
    for _, model in pair("wav2vec2", "bart"):
        rates: dict[int, list[Tensor]] = {}
        for name, parameter in model.named_parameters():
            depth = 0
            if name.startswith("encoder.encoder.layers."):
                depth = 1 + int(name.split(".")[3])
            elif name.startswith("decoder.model.decoder.layers."):
                depth = 3 + int(name[len("decoder.model.decoder.layers.") :].partition(".")[0])
            rates.setdefault(depth, []).append(parameter)
        groups = [{"params": rates[depth], "lr": 0.05 * 0.8 ** (4 - depth)} for depth in sorted(rates)]
        optimizer = torch.optim.SGD(groups)
        model(**speech, labels=labels).loss.backward()
        optimizer.step()
        sizes = [sum(p.numel() for p in group["params"]) for group in groups]
        found.append((sizes, model(**speech, labels=labels).logits))
    same(found)


@pytest.mark.parametrize("decoder", ["bart", "bert", "gpt2"])
def test_averages_of_weights(pair: Any, speech: Any, labels: Any, same: Any, decoder: str) -> None:
    """A running average by the names of parameters, and the mean of two checkpoints, loaded again."""
    found = []
    for _, model in pair("wav2vec2", decoder):
        average = {name: p.data.clone() for name, p in model.named_parameters() if p.requires_grad}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for _ in range(2):
            model(**speech, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            for name, parameter in model.named_parameters():
                average[name].mul_(0.9).add_(parameter.data, alpha=0.1)
        ends = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(average, strict=False)
        first = model(**speech, labels=labels).loss
        model.load_state_dict({name: (start[name] + ends[name]) / 2 for name in ends})
        found.append((first, model(**speech, labels=labels).loss))
    same(found)


def test_a_module_of_lightning(pair: Any, speech: Any, labels: Any, same: Any) -> None:
    """The model inside a module of another library: `self.model`, its state dict under a prefix, and back."""

    class Module(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: dict[str, Tensor]) -> Tensor:
            loss: Tensor = self.model(**batch)[0]
            return loss

    found = []
    for _, model in pair("wav2vec2", "bart"):
        module = Module(model)
        chosen = [p for n, p in module.named_parameters() if "encoder_attn" in n or n.startswith("model.enc_to_dec")]
        optimizer = torch.optim.AdamW(chosen, lr=0.01)
        batch = {**speech, "labels": labels}
        for _ in range(2):
            module.training_step(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        saved = {"state_dict": module.state_dict()}
        bare = {name.removeprefix("model."): tensor for name, tensor in saved["state_dict"].items()}
        model.load_state_dict(bare)
        found.append((sum(p.numel() for p in chosen), module.training_step(batch)))
    same(found)


def test_whole_names_in_lists(pair: Any, same: Any) -> None:
    wanted = ["encoder.masked_spec_embed", "decoder.model.decoder.layers.0.self_attn.q_proj.weight"]
    found = []
    for _, model in pair("wav2vec2", "bart"):
        names = [name for name, _ in model.named_parameters()]
        chosen = [parameter for name, parameter in model.named_parameters() if name in wanted]
        one = [name == wanted[0] for name in names].count(True)
        other = [name != wanted[0] for name in names].count(True)
        found.append(([p.detach() for p in chosen], one, other - len(names)))
    same(found)
    assert len(found[0][0]) == 2


def test_our_names_stay_equal_to_themselves(pair: Any) -> None:
    *_, (_, model) = pair("wav2vec2", "bart")
    plain = [str(name) for name, _ in torch.nn.Module.named_parameters(model)]
    for index, (name, _) in enumerate(model.named_parameters()):
        assert [other for other in plain if name == other] == [plain[index]]
        assert plain.index(name) == index
        assert {name: 1}[plain[index]] == 1


@pytest.mark.parametrize("convert", [torch.from_numpy, np.asarray, jnp.asarray])
def test_labels_are_shifted_by_the_function_of_transformers(convert: Any) -> None:
    labels = np.array([[5, 6, 7, 2], [8, 9, 2, -100], [-100, 1, 2, -100]], np.int32)
    expected = transformers.models.bart.modeling_bart.shift_tokens_right(torch.from_numpy(labels), 1, 3)
    given = convert(labels.copy())
    found = dragoman.shift_tokens_right(given, 1, 3)
    assert type(found) is type(given)
    assert found.dtype == given.dtype
    assert np.array_equal(found, expected)
    assert np.array_equal(given, labels)
    with pytest.raises(ValueError, match="pad_token_id"):
        dragoman.shift_tokens_right(given, None, 3)
