"""PEFT around these models: targets by the names of `transformers`, training, merging, adapters on disk."""

import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from dragoman.errors import ConfigError

# PEFT asks a model for `is_gradient_checkpointing`, which `transformers` renames
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def wrap(model: Any, targets: Any, **options: Any) -> Any:
    return peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=4, target_modules=targets, **options))


@pytest.mark.parametrize(
    ("decoder", "targets", "options"),
    [
        ("bert", ["query", "value"], {}),
        ("bart", ["q_proj", "v_proj"], {}),
        ("bart", ["fc1", "fc2", "intermediate_dense"], {}),
        ("bart", ["encoder_attn.q_proj"], {}),
        ("bart", ["q_proj"], {"layers_to_transform": [1]}),
        ("bart", ["q_proj"], {"exclude_modules": ["layers.0.attention.q_proj"]}),
        ("bert", ["query", "value"], {"modules_to_save": ["enc_to_dec_proj"]}),
        ("bart", ["q_proj"], {"modules_to_save": ["embed_tokens"]}),
        ("bart", ["q_proj"], {"modules_to_save": ["encoder.feature_projection"]}),
        ("bert", ["query"], {"modules_to_save": ["transform"]}),
        ("bart", ["decoder.model.decoder.layers.0.self_attn.q_proj"], {}),
    ],
)
def test_targets_have_the_names_of_transformers(
    pair: Any, speech: Any, labels: Any, same: Any, decoder: str, targets: Any, options: Any
) -> None:
    found = []
    for _, model in pair("wav2vec2", decoder):
        wrapped = wrap(model, targets, **options)
        wrapped(**speech, labels=labels).loss.backward()
        trained = {id(p) for p in wrapped.parameters() if p.grad is not None}
        found.append((wrapped.get_nb_trainable_parameters(), len(trained), wrapped(**speech, labels=labels).loss))
    same(found)


def test_a_fused_target_is_its_parts(pair: Any, speech: Any, labels: Any) -> None:
    *_, (_, model) = pair("wav2vec2", "gpt2")
    wrap(model, ["c_attn"])
    adapted = {name for name, module in model.named_modules() if isinstance(module, peft.tuners.lora.LoraLayer)}
    attention = re.compile(r"decoder\.stack\.layers\.\d\.(self_attn\.[qkv]|cross_attn\.[kv])_proj")
    assert len(adapted) == 2 * 5
    assert all(attention.fullmatch(name) for name in adapted)


def test_a_pattern_reads_the_other_name(pair: Any) -> None:
    """`re` cannot ask a name for its other self; `theirs` gives it."""
    *_, (_, model) = pair("wav2vec2", "bert")
    pattern = re.compile(r"decoder\.bert\.encoder\.layer\.(\d+)\.crossattention\.self\.(query|value)")
    targets = [name for name, _ in model.named_modules() if pattern.fullmatch(name.theirs)]
    wrapped = wrap(model, targets)
    chosen = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert len(chosen) == 2 * 2 * 2
    assert all("crossattention" in name for name, p in wrapped.named_parameters() if p.requires_grad)


def test_training_generation_merging_and_folders(
    pair: Any, speech: Any, labels: Any, same: Any, tmp_path: Path
) -> None:
    found = []
    for library, model in pair("wav2vec2", "bart"):
        wrapped = wrap(model, ["q_proj", "v_proj"], task_type="SEQ_2_SEQ_LM")
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.data.fill_(0.05)
        optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=0.5)
        losses = []
        for _ in range(2):
            loss = wrapped(input_values=speech["input_values"], labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        tokens = wrapped.generate(input_values=speech["input_values"], max_new_tokens=5, do_sample=False).tolist()
        folder = tmp_path / library.__name__
        wrapped.save_pretrained(folder)
        with wrapped.disable_adapter():
            plain = wrapped(input_values=speech["input_values"], labels=labels).loss.detach()
        merged = wrapped.merge_and_unload()
        merged.save_pretrained(folder / "merged")
        again = type(merged).from_pretrained(folder / "merged").eval()
        found.append((losses, tokens, plain, *(m(**speech, labels=labels).loss for m in (merged, again))))
        base = library.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "model").eval()
        loaded = peft.PeftModel.from_pretrained(base, folder)
        same([found[-1][-1], loaded(**speech, labels=labels).loss])
    same(found)


def test_an_adapter_trained_with_transformers_is_loaded(
    pair: Any, speech: Any, labels: Any, same: Any, tmp_path: Path
) -> None:
    models = [model for _, model in pair("wav2vec2", "bart")]
    trained = wrap(models[0], ["q_proj", "v_proj"], init_lora_weights=False)
    trained.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(models[1], tmp_path / "adapter")
    same([model(**speech, labels=labels).loss for model in (trained, loaded)])


def test_preparing_for_training_with_few_bits(pair: Any, same: Any) -> None:
    found = []
    for _, model in pair("wav2vec2", "bart"):
        prepared = peft.prepare_model_for_kbit_training(model)
        found.append((sum(p.requires_grad for p in prepared.parameters()), prepared.is_gradient_checkpointing))
    same(found)


def test_a_tied_head_is_not_trained_alone(pair: Any) -> None:
    *_, (_, model) = pair("wav2vec2", "bart")
    with pytest.raises(ConfigError, match="tied to the token embedding"):
        wrap(model, ["q_proj"], modules_to_save=["lm_head"])


@pytest.mark.parametrize("head", ["cls", "predictions"])
def test_the_whole_head_of_bert_is_trained(pair: Any, speech: Any, labels: Any, head: str) -> None:
    """`cls` is several modules here: all of them, or none where one is tied."""
    *_, (_, model) = pair("wav2vec2", "bert")
    with pytest.raises(ConfigError, match="tied to the token embedding"):
        wrap(model, ["query"], modules_to_save=[head])
    found = []
    for _, untied in pair("wav2vec2", "bert"):
        table = untied.get_input_embeddings().weight
        untied.set_output_embeddings(torch.nn.Linear(table.shape[1], table.shape[0]))
        wrapped = wrap(untied, ["query"], modules_to_save=[head])
        wrapped(**speech, labels=labels).loss.backward()
        found.append(sum(p.numel() for p in wrapped.parameters() if p.grad is not None and p.ndim < 2))
    assert found[0] == found[1] > 100


def test_a_part_of_a_module_is_refused(pair: Any) -> None:
    *_, (_, model) = pair("wav2vec2", "bart")
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ConfigError, match=r"`encoder.encoder.pos_conv_embed.conv.parametrizations` is no module here"):
        [name for name in names if name.endswith("parametrizations")]


def test_an_adapter_for_transformers_is_made_from_one_with_our_names(
    pair: Any, speech: Any, labels: Any, same: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"modules_to_save": ["enc_to_dec_proj"], "init_lora_weights": False}
    models = [model for _, model in pair("wav2vec2", "bart", hidden_size=16)]
    trained = wrap(models[1], ["q_proj", "fc1"], **options)
    for _ in range(2):
        trained.save_pretrained(tmp_path / "ours")
    assert caplog.text.count("model.save_adapter(other_folder)") == 1
    base = type(models[1]).from_pretrained(tmp_path / "model").eval()
    base.load_adapter(tmp_path / "ours")
    base.save_adapter(tmp_path / "theirs")
    loaded = peft.PeftModel.from_pretrained(models[0], tmp_path / "theirs")
    same([model(**speech, labels=labels).loss for model in (loaded, trained)])
