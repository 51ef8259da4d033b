"""LoRA: start, training, merging, dropout, and files exchanged between the backends."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman import (
    CheckpointError,
    ConfigError,
    SpeechEncoder,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    TextDecoder,
)
from dragoman.errors import ModelNotFoundError
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.tree import flat, nested
from dragoman.jax.train import Trainer, trained
from dragoman.testing import TOLERANCES, tiny_config

LABELS = torch.tensor([[11, 12, 13, 2], [14, 2, -100, -100]])


def config(decoder: str = "llama", **fields: Any) -> SpeechEncoderDecoderConfig:
    fields = fields or {"fusion": "prefix"}
    ids = {"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config(decoder), **fields, **ids)


def built(decoder: str = "llama", **fields: Any) -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    return SpeechEncoderDecoderModel(config=config(decoder, **fields)).eval()


def speech() -> torch.Tensor:
    return torch.randn(2, 800, generator=torch.Generator().manual_seed(1))


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        given = (
            (speech(), LABELS) if isinstance(model, SpeechEncoderDecoderModel) else (speech().numpy(), LABELS.numpy())
        )
        return np.asarray(model(given[0], labels=given[1]).logits)


def randomize_lora(model: SpeechEncoderDecoderModel) -> None:
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_b" in name:
                tensor.normal_(std=0.3)


def test_fresh_lora_changes_nothing_and_only_it_is_trained() -> None:
    model = built()
    before = logits(model)
    model.add_lora(rank=4, targets=("q_proj", "down_proj"))
    assert np.array_equal(logits(model), before)
    model.freeze_encoder()
    trainable = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    layers = [f"decoder.stack.layers.{i}.{layer}" for i in range(2) for layer in ("self_attn.q_proj", "ffn.out_proj")]
    bridge = {f"bridge.{layer}_proj.{name}" for layer in ("in", "out") for name in ("weight", "bias")}
    assert trainable == {f"{layer}.lora_{side}" for layer in layers for side in "ab"} | bridge
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    frozen = model.decoder.stack.layers[0].self_attn.q_proj.weight.clone()
    losses = []
    for _ in range(6):
        loss = model.train()(speech(), labels=LABELS).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    assert torch.equal(model.decoder.stack.layers[0].self_attn.q_proj.weight, frozen)
    assert model.decoder.stack.layers[0].self_attn.q_proj.lora_b.abs().max() > 0


@pytest.mark.parametrize("decoder", ["llama", "gpt2", "bert"])
def test_merging_and_saving_keep_the_logits(decoder: str, tmp_path: Path) -> None:
    model = built(decoder, fusion="cross_attention")
    model.add_lora(
        rank=2, alpha=7, targets={"llama": ["o_proj", "gate_proj"], "gpt2": ["c_attn"], "bert": ["query"]}[decoder]
    )
    randomize_lora(model)
    model.eval()
    before = logits(model)
    model.save_pretrained(tmp_path)
    assert not any("lora" in name for name in load_file(tmp_path / "model.safetensors"))
    saved = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert np.abs(logits(saved) - before).max() <= TOLERANCES["cached"]
    model.merge_lora()
    assert not any("lora" in name for name in model.state_dict())
    assert np.abs(logits(model) - before).max() <= TOLERANCES["cached"]
    model.add_lora()  # after merging, another one may be added


@pytest.mark.parametrize("fusion", ["prefix", pytest.param("cross_attention", marks=pytest.mark.slow)])
def test_adapter_files_are_exchanged_between_backends(fusion: str, tmp_path: Path) -> None:
    model = built(fusion=fusion)
    model.save_pretrained(tmp_path / "base")
    model.add_lora(rank=3, targets=("q_proj", "v_proj"))
    randomize_lora(model)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.startswith("bridge") or "cross_attn" in name:
                tensor.add_(0.1)
    before = logits(model.eval())
    model.save_adapter(tmp_path / "adapter")
    about = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (about["peft_type"], about["r"], about["lora_alpha"]) == ("LORA", 3, 16.0)
    assert about["target_modules"] == ["q_proj", "v_proj"]
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    layer = "base_model.model.decoder.model.layers.1.self_attn.q_proj"
    assert tensors[f"{layer}.lora_A.weight"].shape == (3, 24)
    assert tensors[f"{layer}.lora_B.weight"].shape == (24, 3)
    assert not any(name.startswith("base_model.model.encoder") or "mlp" in name for name in tensors)
    flax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "base")
    flax.load_adapter(tmp_path / "adapter")
    assert np.abs(logits(flax) - before).max() <= TOLERANCES["logits"]
    flax.save_adapter(tmp_path / "again")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "base")
    again.load_adapter(tmp_path / "again")
    assert np.array_equal(logits(again), before)
    masks = flat(trained(flax.tree))
    assert {name for name, new in masks.items() if new} == {
        name for name, tensor in again.named_parameters() if tensor.requires_grad and not name.startswith("encoder")
    }
    flax.merge_lora()
    assert "lora_a" not in str(jax.tree.structure(flax.tree))
    assert np.abs(logits(flax) - before).max() <= TOLERANCES["logits"]


@pytest.mark.parametrize(("decoder", "target"), [("bert", "query"), ("bart", "q_proj")])
@pytest.mark.parametrize("tied", [True, False])
def test_adapter_holds_all_that_was_trained(decoder: str, target: str, tied: bool, tmp_path: Path) -> None:
    """The embedding was resized, and encoder and bridge learned: a LoRA alone would be another model."""
    torch.manual_seed(0)
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config(decoder, tie_word_embeddings=tied)}
    joint = SpeechEncoderDecoderConfig(**parts, decoder_start_token_id=3, pad_token_id=1)
    SpeechEncoderDecoderModel(config=joint).save_pretrained(tmp_path / "base")
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "base")
    model.resize_token_embeddings(120)
    model.add_lora(rank=2, targets=target)
    with torch.no_grad():
        model.encoder.stack.layers[1].ffn.in_proj.weight.add_(0.1)
        model.encoder.frontend.proj.bias.add_(0.1)
        model.bridge.proj.weight.add_(0.1)
        model.decoder.stack.layers[0].ffn_norm.weight.add_(0.1)
    randomize_lora(model)
    before = logits(model.eval())
    model.save_adapter(tmp_path / "one")
    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "one/adapter_model.safetensors")}
    own = {name for name in names if name.startswith("encoder.")}
    feed_forward = "encoder.encoder.layers.1.feed_forward.intermediate_dense.weight"
    assert own == {"encoder.feature_projection.projection.bias", feed_forward}
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "base")
    again.load_adapter(tmp_path / "one")
    assert np.array_equal(logits(again.eval()), before)
    assert again.config.decoder.vocab_size == again.get_input_embeddings().num_embeddings == 120
    again.save_adapter(tmp_path / "two")  # what an adapter brought belongs to the next one
    flax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "base")
    flax.load_adapter(tmp_path / "two")
    assert np.abs(logits(flax) - before).max() <= TOLERANCES["logits"]
    flax.params = nested({n: a + 0.1 if n == "encoder.input_norm.bias" else a for n, a in flat(flax.tree).items()})
    flax.save_adapter(tmp_path / "three")
    last = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "base")
    last.load_adapter(tmp_path / "three")
    assert np.abs(logits(flax) - logits(last.eval())).max() <= TOLERANCES["logits"]
    assert not np.allclose(logits(last), before)


def test_adapter_holds_what_no_checkpoint_held(tmp_path: Path) -> None:
    """A new conv adapter and a new head differ in each warm start."""
    torch.manual_seed(0)
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
    TextDecoder(tiny_config("bert")).save_pretrained(tmp_path / "text")
    tensors = load_file(tmp_path / "text/model.safetensors")
    body = {name.removeprefix("bert."): tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    save_file(body, tmp_path / "text/model.safetensors", {"format": "pt"})

    def start() -> SpeechEncoderDecoderModel:
        model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
            tmp_path / "speech", tmp_path / "text", encoder_add_adapter=True, encoder_mask_time_prob=0.1
        )
        model.config.decoder_start_token_id, model.config.pad_token_id = 3, 1
        return model

    model, other = start(), start()
    model.add_lora(targets="all-linear")
    randomize_lora(model)
    model.save_adapter(tmp_path / "adapter")
    assert not np.allclose(logits(other), logits(model))
    other.load_adapter(tmp_path / "adapter")
    assert np.array_equal(logits(other), logits(model))


def test_encoder_may_have_a_lora(tmp_path: Path) -> None:
    model = built("bart", fusion=None)
    model.save_pretrained(tmp_path / "base")
    model.add_lora(rank=2, targets=("q_proj", "fc1", "intermediate_dense"), encoder=True)
    randomize_lora(model)
    trainable = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert all("lora" in name for name in trainable if name.startswith("encoder."))
    assert "encoder.stack.layers.1.ffn.in_proj.lora_a" in trainable
    before = logits(model.eval())
    model.save_adapter(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "folded")
    save_file(model.state_dict(), tmp_path / "trained.safetensors", {"format": "pt"})
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trained.safetensors").rename(tmp_path / "trainer/model.safetensors")
    model.config.save_pretrained(tmp_path / "trainer")
    for cls in SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel:
        loaded = cls.from_pretrained(tmp_path / "base")
        loaded.load_adapter(tmp_path / "adapter")
        for one in loaded, cls.from_pretrained(tmp_path / "folded"), cls.from_pretrained(tmp_path / "trainer"):
            assert np.abs(logits(one) - before).max() <= TOLERANCES["logits"]
        loaded.merge_lora()
        assert np.abs(logits(loaded) - before).max() <= TOLERANCES["logits"]
        loaded.add_lora()
    model.merge_lora()
    assert not any("lora" in name for name, _ in model.named_parameters())
    masks = flat(trained(FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path / "trainer").tree))
    assert {name for name, on in masks.items() if on and name.startswith("encoder.")} == {
        name for name in trainable if name.startswith("encoder.")
    }


def test_adapter_of_peft_is_loaded(tmp_path: Path) -> None:
    """PEFT wraps any linear layer and writes our names; its wrapper passes two arguments of text models."""
    model = built("bert", fusion=None)
    generator = torch.Generator().manual_seed(0)
    layers = ["encoder.stack.layers.0.self_attn.q_proj", "decoder.stack.layers.1.cross_attn.v_proj", "bridge.proj"]
    tensors = {"base_model.model.decoder.head.bias": torch.randn(99, generator=generator)}
    for layer in layers:
        rows, columns = model.get_submodule(layer).weight.shape
        tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": r".*(proj)", "task_type": "SEQ_2_SEQ_LM"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    with torch.no_grad():
        expected = built("bert", fusion=None)
        expected.decoder.head.bias.copy_(tensors["base_model.model.decoder.head.bias"])
        for layer in layers:
            a, b = (tensors[f"base_model.model.{layer}.lora_{side}.weight"] for side in "AB")
            expected.get_submodule(layer).weight.add_(b @ a * 3.0)
    model.load_adapter(tmp_path)
    assert np.abs(logits(model) - logits(expected)).max() <= TOLERANCES["logits"]
    given = {"input_values": speech(), "decoder_input_ids": torch.tensor([[0, 5], [0, 6]])}
    assert model(**given, input_ids=None, inputs_embeds=None).logits.shape == (2, 2, 99)
    with pytest.raises(ConfigError, match="The encoder reads audio"):
        model(**given, input_ids=torch.tensor([[0]]))


def test_adapter_says_that_it_leaves_out_modules_of_a_subclass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class WithCtc(SpeechEncoderDecoderModel):
        def __init__(self, **parts: Any) -> None:
            super().__init__(**parts)
            self.ctc = torch.nn.Linear(32, 7)

    model = WithCtc(config=config("bart", fusion=None))
    model.add_lora()
    model.save_adapter(tmp_path)
    assert "leaves out ctc.weight, ctc.bias, of modules that a subclass added" in caplog.text
    assert {"ctc.weight", "ctc.bias"} <= set(model.state_dict())


@pytest.mark.slow
def test_dropout_applies_to_the_lora_inputs_in_training() -> None:
    """Dropout applies to the input of the LoRA matrices only: at rate 1, the text model is unchanged."""
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    encoder = tiny_config("wav2vec2", num_hidden_layers=1, layerdrop=0.0, apply_spec_augment=False, **still)
    ids = {"decoder_start_token_id": 0, "pad_token_id": 1}
    joint = SpeechEncoderDecoderConfig(encoder=encoder, decoder=tiny_config("llama"), fusion="prefix", **ids)
    model, flax = SpeechEncoderDecoderModel(config=joint), FlaxSpeechEncoderDecoderModel(config=joint)
    waves, labels = speech().numpy(), LABELS.numpy()

    def in_torch() -> np.ndarray:
        return model.train()(speech(), labels=LABELS).logits.detach().numpy()

    def in_jax(seed: int = 0) -> np.ndarray:
        return np.asarray(flax(waves, labels=labels, train=True, dropout_rng=jax.random.key(seed)).logits)

    before, flax_before = in_torch(), in_jax()
    for rate in 1.0, 0.5:
        for joined in model, flax:
            joined.add_lora(targets=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), dropout=rate)
        randomize_lora(model)
        flax.params = nested({n: a + 0.3 if "lora_b" in n else a for n, a in flat(flax.tree).items()})
        gone = rate == 1.0
        assert np.allclose(in_torch(), before, atol=TOLERANCES["cached"]) == gone
        assert np.allclose(in_jax(), flax_before, atol=TOLERANCES["cached"]) == gone
        assert np.array_equal(in_jax(0), in_jax(1)) == gone
        evaluated = np.asarray(flax(waves, labels=labels).logits)
        flax.merge_lora()
        assert np.abs(np.asarray(flax(waves, labels=labels).logits) - evaluated).max() <= TOLERANCES["cached"]
        model.merge_lora()
        before, flax_before = in_torch(), in_jax()


def test_invalid_requests_are_refused(tmp_path: Path) -> None:
    model = built("gpt2", fusion="prefix")
    with pytest.raises(ConfigError, match=r"may be .*c_attn.*, but one is 'qproj'"):
        model.add_lora(targets=["qproj"])
    for wrong in {"rank": 0}, {"alpha": -1.0}, {"dropout": 2.0}, {"targets": []}:
        with pytest.raises(ConfigError, match="LoRA"):
            model.add_lora(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no LoRA to save"):
        model.save_adapter(tmp_path)
    model.add_lora()
    with pytest.raises(ConfigError, match="a LoRA already"):
        model.add_lora()
    with pytest.raises(CheckpointError, match=r"PEFT's format cannot hold.*merge_lora"):
        model.save_adapter(tmp_path)
    with pytest.raises(ModelNotFoundError):
        built().load_adapter(tmp_path)


def test_unsupported_adapters_are_refused(tmp_path: Path) -> None:
    model = built()
    model.add_lora()
    model.save_adapter(tmp_path)
    path = tmp_path / "adapter_config.json"
    about = json.loads(path.read_text())
    for change in (
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"r": "8"},
        {"bias": "all"},
    ):
        path.write_text(json.dumps({**about, **change}))
        with pytest.raises(CheckpointError, match="not a plain LoRA"):
            built().load_adapter(tmp_path)
    path.write_text(json.dumps({**about, "target_modules": ["k_proj"]}))
    other = built()
    with pytest.raises(CheckpointError, match="not of this model"):
        other.load_adapter(tmp_path)
    assert not any("lora" in name for name in other.state_dict())


def check_trained_weights(trainer: Trainer, model: FlaxSpeechEncoderDecoderModel) -> None:
    """The loss falls, and exactly the new weights have changed."""
    state, before = trainer.begin(model.tree), flat(jax.tree.map(np.asarray, model.tree))
    batch = trainer.batch([{"input_values": speech().numpy(), "labels": LABELS.numpy()}])
    losses = []
    for _ in range(5):
        state, loss = trainer.step(state, batch)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    changed = {name for name, array in flat(state.params).items() if not np.array_equal(array, before[name])}
    assert changed == {name for name, new in flat(trained(model.tree)).items() if new}


@pytest.mark.slow
def test_jax_trainer_changes_only_lora_and_bridge() -> None:
    model = FlaxSpeechEncoderDecoderModel(config=config())
    model.add_lora(rank=2)
    trainer = Trainer(model, optax.adamw(3e-3), freeze_encoder=True)
    check_trained_weights(trainer, model)


@pytest.mark.slow
def test_jax_optimizer_can_be_limited_to_new_weights() -> None:
    model = FlaxSpeechEncoderDecoderModel(config=config())
    model.add_lora(rank=2)
    labels = jax.tree.map(lambda new: "new" if new else "old", trained(model.tree))
    optimizer = optax.multi_transform({"new": optax.adamw(3e-3), "old": optax.set_to_zero()}, labels)
    trainer = Trainer(model, optimizer)
    check_trained_weights(trainer, model)
