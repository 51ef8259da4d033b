"""`from_encoder_decoder_pretrained`: options of both parts, new weights, flags, ids, and parts that do not fit."""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import dragoman
from dragoman import (
    ConfigError,
    GenerationError,
    ModelNotFoundError,
    SpeechEncoderDecoderModel,
)
from dragoman.testing import tiny_config
from dragoman.torch.backend import BACKEND

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])

warm_start = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained


class Ids:
    """Any object with ids may be the tokenizer of a warm start."""

    def __init__(self, **ids: int) -> None:
        self.__dict__.update(ids)

    def save_pretrained(self, folder: str) -> None:
        Path(folder, "tokens.json").write_text(json.dumps(self.__dict__))


def test_loading_options_apply_to_both_parts(checkpoints: Path) -> None:
    """`transformers` only stores them: the configuration says float16, the weights are float32."""
    model = warm_start(checkpoints / "hubert", checkpoints / "bert", dtype="float16", local_files_only=True)
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert {model.config.dtype, model.config.encoder.dtype, model.config.decoder.dtype} == {"float16"}
    mixed = warm_start(checkpoints / "hubert", checkpoints / "bert", dtype="float16", decoder_dtype="float32")
    assert (mixed.encoder.dtype, mixed.decoder.dtype) == (torch.float16, torch.float32)


def test_unknown_keyword_is_refused(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match=r"layerdrop.*encoder_layerdrop"):
        warm_start(checkpoints / "hubert", checkpoints / "bert", layerdrop=0.0)


@pytest.mark.parametrize("given", ["decoder_config", "nothing"])
def test_decoder_attends_to_speech_and_is_causal(checkpoints: Path, speech: Speech, tmp_path: Path, given: str) -> None:
    """`transformers` takes a configuration without the flags as it is: no cross-attention, no causal mask."""
    config = tiny_config("bert")
    before = copy.deepcopy(config)
    model = warm_start(
        checkpoints / "hubert",
        checkpoints / "bert",
        **({"decoder_config": config} if given == "decoder_config" else {}),
    )
    assert config == before
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.tensor([[3, 4, 5, 6]])
    base = model(speech(1), decoder_input_ids=tokens).logits
    assert not torch.allclose(model(speech(1, seed=1), decoder_input_ids=tokens).logits, base)
    tokens[0, 3] = 7
    later = model(speech(1), decoder_input_ids=tokens).logits
    torch.testing.assert_close(later[:, :3], base[:, :3], atol=1e-5, rtol=0)
    assert not torch.allclose(later[:, 3], base[:, 3])
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again(speech(1), decoder_input_ids=tokens).logits, later)


def test_all_modules_are_in_evaluation_mode(checkpoints: Path, build: Any, tmp_path: Path) -> None:
    """In `transformers`, the joint module is in training mode while its parts are not."""
    build().train().save_pretrained(tmp_path)
    for model in (
        warm_start(checkpoints / "hubert", checkpoints / "bert"),
        SpeechEncoderDecoderModel.from_pretrained(tmp_path),
    ):
        assert not any(module.training for module in model.modules())


def test_missing_part_is_refused(checkpoints: Path, build: Any) -> None:
    for half, arguments in ("encoder", (None, checkpoints / "bert")), ("decoder", (checkpoints / "hubert",)):
        with pytest.raises(ConfigError, match=f"`{half}_pretrained_model_name_or_path` has to be defined"):
            warm_start(*arguments)
    with pytest.raises(ConfigError, match="`decoder_model` must be a TextDecoder"):
        warm_start(checkpoints / "hubert", decoder_model=torch.nn.Linear(1, 1))
    with pytest.raises(ModelNotFoundError, match="no-such-folder"):
        warm_start(checkpoints / "hubert", checkpoints / "no-such-folder", local_files_only=True)


@pytest.mark.parametrize("decoder", ["bert", "gpt2", "bart", "mbart"])
def test_every_decoder_of_the_page_is_loaded(checkpoints: Path, speech: Speech, decoder: str) -> None:
    """In `transformers` 5, GPT-2 fails, and the embedding of BART and mBART stays random."""
    model = warm_start(checkpoints / "hubert", checkpoints / decoder, pad_token_id=1, decoder_start_token_id=3)
    assert model(speech(2), labels=LABELS).loss.isfinite()
    wanted = load_file(checkpoints / decoder / "model.safetensors")
    name = {"bert": "bert.embeddings.word_embeddings.weight", "gpt2": "transformer.wte.weight"}
    assert model.decoder.embed.tokens.weight.equal(wanted[name.get(decoder, "model.shared.weight")])


def test_new_weights_are_logged(checkpoints: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="dragoman"):
        model = warm_start(checkpoints / "hubert", checkpoints / "bert", encoder_mask_time_prob=0.1)
    new = model.load_report.fresh
    assert {name for name in new if "cross_attn" not in name} <= {
        "bridge.proj.weight",
        "bridge.proj.bias",
        "encoder.mask_embed",
    }
    assert f"{len(new)} tensors are new and need training" in caplog.text
    assert "lm_head" in caplog.text
    assert "a head that an encoder does not need" in caplog.text


def test_every_tensor_of_a_checkpoint_is_reported(tmp_path: Path) -> None:
    """Each is loaded, dropped with a reason, or fresh."""
    config = transformers.AutoConfig.for_model(**tiny_config("bart").to_dict())
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder_model=dragoman.SpeechEncoder(tiny_config("hubert")), decoder_pretrained_model_name_or_path=tmp_path
    )
    report = model.load_report
    decoder = {f"decoder.{name}" for name in BACKEND.tensors(model.decoder)}
    assert set(report.loaded) == decoder
    assert set(report.fresh) == {"bridge.proj.weight", "bridge.proj.bias"}
    assert len(report.dropped) + len(report.loaded) == len(load_file(tmp_path / "model.safetensors"))
    assert all(why for why in report.dropped.values())


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ({"cls_token_id": 9, "sep_token_id": 8, "pad_token_id": 7}, (9, 8, 7)),  # BERT
        ({"bos_token_id": 9, "eos_token_id": 9}, (9, 9, 9)),  # GPT-2, which has no padding token
        ({"cls_token_id": 4, "bos_token_id": 4, "sep_token_id": 5, "eos_token_id": 5, "pad_token_id": 1}, (4, 5, 1)),
    ],
)
def test_ids_are_taken_from_a_tokenizer(
    build: Any, tmp_path: Path, ids: dict[str, int], wanted: tuple[int, int, int]
) -> None:
    half = build()
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder_model=half.encoder, decoder_model=half.decoder, tokenizer=Ids(**ids)
    )
    config = model.config
    assert (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id) == wanted
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokens.json").read_text()) == ids


@pytest.mark.parametrize("model_type", ["llama", "opt", "gpt_neox"])
def test_decoder_without_cross_attention_needs_a_fusion_mode(
    checkpoints: Path, tmp_path: Path, model_type: str
) -> None:
    """`transformers` builds them, ignores the speech, and fails at the end of the first call."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": 99}))
    save_file({"model.embed_tokens.weight": torch.zeros(99, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ConfigError, match=rf"{model_type}.*no cross-attention.*fusion=\"cross_attention\".*fusion=\"prefix\""
    ):
        warm_start(checkpoints / "hubert", tmp_path)


def test_swapped_checkpoints_are_refused(checkpoints: Path) -> None:
    with pytest.raises(ConfigError, match=r"bert.*speech"):
        warm_start(checkpoints / "bert", checkpoints / "bert")
    with pytest.raises(ConfigError, match=r"wav2vec2.*text"):
        warm_start(checkpoints / "wav2vec2", checkpoints / "wav2vec2")


def test_fields_of_the_parts_by_keyword(checkpoints: Path) -> None:
    """Modules that a keyword adds are reported as fresh."""
    model = warm_start(
        checkpoints / "wav2vec2",
        checkpoints / "bert",
        encoder_add_adapter=True,
        encoder_layerdrop=0.0,
        decoder_hidden_dropout_prob=0.3,
    )
    assert model.encoder.adapter is not None
    assert (model.config.encoder.layerdrop, model.config.decoder.hidden_dropout_prob) == (0.0, 0.3)
    assert any(name.startswith("encoder.adapter.") for name in model.load_report.fresh)
    with pytest.raises(ConfigError, match=r'layerdorp.*Did you mean "layerdrop"'):
        warm_start(checkpoints / "wav2vec2", checkpoints / "bert", encoder_layerdorp=0.0)


def test_ignored_options_are_not_stored_in_the_configuration(checkpoints: Path, build: Any, tmp_path: Path) -> None:
    """`transformers` stores unknown options in the configuration."""
    idle = {"attn_implementation": "sdpa", "low_cpu_mem_usage": True}
    build().save_pretrained(tmp_path)
    for model in (
        warm_start(checkpoints / "hubert", checkpoints / "bert", **idle, encoder_attn_implementation="eager"),
        SpeechEncoderDecoderModel.from_pretrained(tmp_path, **idle),
    ):
        for config in model.config, model.config.encoder, model.config.decoder:
            assert not set(config.to_dict()) & set(idle)


@pytest.mark.parametrize("name", ["SpeechEncoderDecoderModel", "FlaxSpeechEncoderDecoderModel"])
def test_options_of_generate_are_taken(checkpoints: Path, tmp_path: Path, name: str) -> None:
    """As in the README of the page's model; `transformers` 5 drops them, and `from_pretrained` raises a TypeError."""
    cls = getattr(dragoman, name)
    given = {"max_length": 20, "num_beams": 5, "early_stopping": True, "no_repeat_ngram_size": 3}
    model = cls.from_encoder_decoder_pretrained(
        checkpoints / "wav2vec2", checkpoints / "bart", encoder_add_adapter=True, **given
    )
    assert {option: getattr(model.generation_config, option) for option in given} == given
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert {option: saved[option] for option in given} == given
    assert "num_beams" not in json.loads((tmp_path / "config.json").read_text())
    loaded = cls.from_pretrained(tmp_path, num_beams=2, encoder_layerdrop=0.0).generation_config
    assert {option: getattr(loaded, option) for option in given} == given | {"num_beams": 2}


def test_options_of_generate_are_checked_first(checkpoints: Path) -> None:
    start = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained
    with pytest.raises(GenerationError, match="num_beams"):
        start("missing", checkpoints / "bart", num_beams=0)
    with pytest.raises(ConfigError, match=r'`num_beam`.*[Dd]id you mean "num_beams"'):
        start(checkpoints / "wav2vec2", checkpoints / "bart", num_beam=5)
