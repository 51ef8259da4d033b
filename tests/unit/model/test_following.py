"""A configuration that is changed after its model was built: in force at once, or refused; in both backends."""

import copy
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
import torch

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, Family
from dragoman.jax.train import Trainer
from dragoman.spec.ids import SpecialIds
from dragoman.testing import tiny_config
from dragoman.torch.parts import SpeechEncoder, TextDecoder

STILL = {
    "wav2vec2": dict.fromkeys(
        ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop"), 0.0
    )
    | {"apply_spec_augment": False},
    "bart": dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "decoder_layerdrop"), 0.0),
}
RATES = {
    "wav2vec2": ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop"),
    "bart": ("dropout", "attention_dropout", "activation_dropout"),
}


def config_of(**fields: Any) -> SpeechEncoderDecoderConfig:
    parts = tiny_config("wav2vec2", **STILL["wav2vec2"]), tiny_config("bart", **STILL["bart"])
    return SpeechEncoderDecoderConfig.from_encoder_decoder_configs(*parts, **fields)


def audio() -> Any:
    return np.random.default_rng(0).normal(size=(2, 4000)).astype(np.float32)


def in_training(model: Any, seed: int) -> Any:
    labels = [[3, 4, 5, 2], [6, 7, 8, 2]]
    if model.backend == "torch":
        torch.manual_seed(seed)
        return model.train()(torch.tensor(audio()), labels=torch.tensor(labels)).logits.detach().numpy()
    key = jax.random.key(seed)
    return np.asarray(model(audio(), labels=np.asarray(labels), train=True, dropout_rng=key).logits)


def differs(model: Any) -> bool:
    runs = [in_training(model, seed) for seed in range(4)]
    return not all(np.array_equal(runs[0], run) for run in runs)


@pytest.fixture(scope="module", params=[SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel], ids=["torch", "jax"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param(config=config_of())


class TestBothBackends:
    def test_augmentation_takes_effect_at_once(self, model: Any) -> None:
        before = model.encoder.spec.spec_augment
        model.config.encoder.update({"apply_spec_augment": True, "mask_time_prob": 0.4, "mask_time_length": 2})
        assert model.encoder.spec.spec_augment.time_prob == 0.4
        model.config.encoder.apply_spec_augment = False
        assert model.encoder.spec.spec_augment == before

    def test_checkpointing_takes_effect_at_once(self, model: Any) -> None:
        for config in model.config, model.config.encoder, model.config.decoder:
            config.gradient_checkpointing = True
            stacks = [model.encoder.stack, model.decoder.stack]
            assert any(stack.gradient_checkpointing for stack in stacks)
            config.gradient_checkpointing = False
            assert not any(stack.gradient_checkpointing for stack in stacks)

    @pytest.mark.parametrize(
        ("part", "name", "value"),
        [
            ("encoder", "hidden_size", 64), ("encoder", "num_hidden_layers", 3), ("encoder", "conv_stride", [5, 2, 4]),
            ("encoder", "feat_extract_norm", "layer"), ("encoder", "hidden_dropout", "much"),
            ("decoder", "hidden_size", 48), ("decoder", "vocab_size", 100), ("decoder", "activation_function", "relu"),
            ("decoder", "dropout", 1.5),
        ],
    )  # fmt: skip
    def test_what_cannot_change_is_refused(self, model: Any, part: str, name: str, value: Any) -> None:
        config = getattr(model.config, part)
        before = config.to_dict()
        with pytest.raises(ConfigError):
            setattr(config, name, value)
        with pytest.raises(ConfigError):
            config.update({"colour": "red", name: value})
        assert config.to_dict() == before

    def test_parts_cannot_be_replaced(self, model: Any) -> None:
        with pytest.raises(ConfigError, match="`encoder` of a model's configuration cannot be replaced"):
            model.config.encoder = tiny_config("hubert")


@pytest.mark.parametrize(
    ("part", "name"),
    [("encoder", name) for name in RATES["wav2vec2"]] + [("decoder", name) for name in RATES["bart"]],
)
def test_rates_take_effect_at_once(part: str, name: str) -> None:
    model = SpeechEncoderDecoderModel(config=config_of())
    setattr(getattr(model.config, part), name, 0.5)
    assert differs(model)
    setattr(getattr(model.config, part), name, 0.0)
    assert not differs(model)


@pytest.mark.nightly
def test_compiled_programs_follow_too() -> None:
    model = FlaxSpeechEncoderDecoderModel(config=config_of())
    trainer = Trainer(model, optax.sgd(0.0))
    batch = trainer.batch([{"input_values": audio(), "labels": np.asarray([[3, 4, 2], [5, 6, 2]])}])
    still = [float(trainer.step(trainer.begin(seed=seed), batch)[1]) for seed in (0, 1)]
    assert still[0] == still[1]
    model.config.decoder.dropout = model.config.encoder.hidden_dropout = 0.5
    assert differs(model)
    moved = [float(trainer.step(trainer.begin(seed=seed), batch)[1]) for seed in (0, 1)]
    assert moved[0] != moved[1]


def test_copies_and_pickles_follow_their_own_configuration(tmp_path: Path) -> None:
    model = SpeechEncoderDecoderModel(config=config_of())
    torch.save(model, tmp_path / "model.pt")
    for twin in (
        copy.deepcopy(model),
        _pickled(model),
        torch.load(tmp_path / "model.pt", weights_only=False),
    ):
        twin.config.decoder.dropout = 0.5
        assert differs(twin)
        assert not differs(model)
    free = copy.deepcopy(model.config)
    free.decoder.hidden_size = 48  # of no model


def test_saved_changes_are_those_in_force(tmp_path: Path) -> None:
    model = SpeechEncoderDecoderModel(config=config_of())
    model.config.encoder.mask_time_prob = 0.0
    model.config.decoder.dropout = 0.25
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again.config.decoder.dropout == again.decoder.spec.stack.block.dropout == 0.25
    assert again.config.encoder.mask_time_prob == 0.0


def test_size_of_the_vocabulary_changes_with_the_model() -> None:
    model = SpeechEncoderDecoderModel(config=config_of())
    with pytest.raises(ConfigError, match="resize_token_embeddings"):
        model.config.decoder.vocab_size = 120
    model.resize_token_embeddings(120)
    assert model.config.decoder.vocab_size == 120
    model.config.decoder.dropout = 0.5
    assert model.decoder.spec.vocab_size == 120


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_every_rate_of_every_family_is_in_force(family: Family) -> None:
    """A part whose rates are set later equals one that was built with them."""
    for part, cls in (family.speech, SpeechEncoder), (family.text, TextDecoder):
        if part is None:
            continue
        config = tiny_config(family.model_type)
        rates = [n for n in config.to_dict() if ("drop" in n or "mask_" in n) and isinstance(getattr(config, n), float)]
        rates = [name for name in rates if is_supported(cls, config.copy(**{name: 0.25}))]  # some must be 0
        built = cls(config.copy(), empty=True)
        for name in rates:
            setattr(built.config, name, 0.25)
        anew = cls(config.copy(**dict.fromkeys(rates, 0.25)), empty=True)
        assert built.spec == anew.spec
        wanted = {path: numbers(module) for path, module in torch.nn.Module.named_modules(anew)}
        assert {path: numbers(module) for path, module in torch.nn.Module.named_modules(built)} == wanted


def is_supported(cls: Any, config: Any) -> bool:
    try:
        cls(config, empty=True)
    except ConfigError:
        return False
    return True


def numbers(module: Any) -> dict[str, float]:
    return {name: value for name, value in vars(module).items() if isinstance(value, float)}


def _pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.text], ids=lambda family: family.model_type)
def test_token_ids_may_change_at_any_time(family: Family) -> None:
    part = TextDecoder(tiny_config(family.model_type), empty=True)
    before = part.spec
    for name in SpecialIds.names():
        setattr(part.config, name, 9)
    assert {name: getattr(part.config, name) for name in SpecialIds.names()} == dict.fromkeys(SpecialIds.names(), 9)
    assert part.spec == before
    rate = next((n for n in part.config.to_dict() if n in ("attention_dropout", "attn_pdrop")), None)
    if rate is not None:  # another field does not meet the changed id
        setattr(part.config, rate, 0.25)
        assert getattr(part.config, rate) == 0.25
