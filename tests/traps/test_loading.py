"""Traps of loading and of the warm start (upstream's behaviour, sections 2.5, 2.6 and 3): what happens here instead."""

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
from dragoman import CheckpointError, ConfigError, ModelNotFoundError, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
Tensors = dict[str, torch.Tensor]
LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])
warm_start = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained

WRITERS = {
    "wav2vec2": transformers.Wav2Vec2ForCTC,
    "hubert": transformers.HubertForCTC,
    "bert": transformers.BertForPreTraining,
    "gpt2": transformers.GPT2LMHeadModel,
    "bart": transformers.BartForConditionalGeneration,
    "mbart": transformers.MBartForConditionalGeneration,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each family, written by transformers."""
    folder = tmp_path_factory.mktemp("made")
    transformers.utils.logging.disable_progress_bar()
    for name, writer in WRITERS.items():
        torch.manual_seed(0)
        writer(transformers.AutoConfig.for_model(**tiny_config(name).to_dict())).save_pretrained(folder / name)
    return folder


def respelled(source: Path, target: Path, spell: Callable[[Tensors], Tensors], *, pickled: bool = False) -> Path:
    """Copy a checkpoint with its tensors changed."""
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    tensors = spell(load_file(source / "model.safetensors"))
    if pickled:
        torch.save(tensors, target / "pytorch_model.bin")
    else:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, target / "model.safetensors")
    return target


def same(one: torch.nn.Module, other: torch.nn.Module, but: tuple[str, ...] = ()) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.equal(theirs[name]) or any(word in name for word in but), name


NEW = ("cross_attn", "mask_embed")


@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_trap_2_5_old_names_of_norms_are_read(made: Path, tmp_path: Path, pickled: bool) -> None:
    """`gamma` and `beta`, in the files of google-bert/bert-base-uncased; and a buffer of position ids."""

    def spell(tensors: Tensors) -> Tensors:
        old = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for n, t in tensors.items()
        }
        return {**old, "bert.embeddings.position_ids": torch.arange(64)[None]}

    folder = respelled(made / "bert", tmp_path / "old", spell, pickled=pickled)
    old = dragoman.TextDecoder.from_pretrained(folder)
    same(old, dragoman.TextDecoder.from_pretrained(made / "bert"))


@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_trap_2_5_both_spellings_of_weight_norm_are_read(made: Path, tmp_path: Path, pickled: bool) -> None:
    """A silent mismatch leaves the positions random."""

    def spell(tensors: Tensors) -> Tensors:
        assert any("original0" in name for name in tensors)
        return {
            n.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): t
            for n, t in tensors.items()
        }

    folder = respelled(made / "wav2vec2", tmp_path / "old", spell, pickled=pickled)
    same(dragoman.SpeechEncoder.from_pretrained(folder), dragoman.SpeechEncoder.from_pretrained(made / "wav2vec2"))


@pytest.mark.parametrize(
    ("name", "prefix"), [("wav2vec2", "wav2vec2."), ("bert", "bert."), ("gpt2", "transformer."), ("bart", "model.")]
)
def test_trap_2_5_files_with_and_without_the_base_models_prefix(
    made: Path, tmp_path: Path, name: str, prefix: str
) -> None:
    def spell(tensors: Tensors) -> Tensors:
        return {n.removeprefix(prefix): t for n, t in tensors.items()}

    cls = dragoman.SpeechEncoder if name == "wav2vec2" else dragoman.TextDecoder
    folder = respelled(made / name, tmp_path / "bare", spell)
    same(cls.from_pretrained(folder), cls.from_pretrained(made / name))


def test_trap_2_5_mask_buffers_of_gpt2_are_ignored(made: Path, tmp_path: Path) -> None:
    def spell(tensors: Tensors) -> Tensors:
        mask = torch.ones(1, 1, 64, 64).tril()
        buffers = {f"transformer.h.{i}.attn.bias": mask for i in range(2)}
        return {**tensors, **buffers, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}

    same(
        dragoman.TextDecoder.from_pretrained(respelled(made / "gpt2", tmp_path / "old", spell)),
        dragoman.TextDecoder.from_pretrained(made / "gpt2"),
    )


@pytest.mark.parametrize("fault", ["missing", "unexpected", "misshapen"])
def test_trap_2_5_nothing_is_left_random_in_silence(build: Any, tmp_path: Path, fault: str) -> None:
    """Upstream warns in a log and goes on."""
    build().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "decoder.bert.encoder.layer.1.crossattention.self.query.weight"
    tensor = tensors.pop(name)
    if fault != "missing":
        tensors[name if fault == "misshapen" else "decoder.bert.pooler2.weight"] = tensor[:, 1:].clone()
    if fault == "unexpected":
        tensors[name] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    words = "1 of another shape" if fault == "misshapen" else f"1 {fault}"
    with pytest.raises(CheckpointError, match=words):
        SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    if fault == "missing":
        model = SpeechEncoderDecoderModel.from_pretrained(tmp_path, allow_new=["decoder.stack.layers.{i}.cross_attn.*"])
        assert model.load_report.fresh == ["decoder.stack.layers.1.cross_attn.q_proj.weight"]


def test_trap_2_5_the_type_is_float32_unless_asked_otherwise(build: Any, tmp_path: Path) -> None:
    """Upstream 4 always, upstream 5 never: here as in 4, and "auto" takes the file's."""
    build().half().save_pretrained(tmp_path)
    load = SpeechEncoderDecoderModel.from_pretrained
    assert load(tmp_path).dtype == torch.float32
    assert load(tmp_path, dtype="auto").dtype == torch.float16
    assert load(tmp_path, torch_dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="int8"):
        load(tmp_path, dtype="int8")


def test_trap_2_5_tied_tensors_are_saved_once(build: Any, tmp_path: Path) -> None:
    names = {
        "bert": ("decoder.cls.predictions.bias", "decoder.cls.predictions.decoder.weight"),
        "gpt2": ("decoder.transformer.wte.weight", "decoder.lm_head.weight"),
        "bart": ("decoder.model.decoder.embed_tokens.weight", "decoder.lm_head.weight"),
    }
    for decoder, (there, not_there) in names.items():
        build(decoder=decoder).save_pretrained(tmp_path / decoder)
        saved = load_file(tmp_path / decoder / "model.safetensors")
        assert there in saved
        assert not_there not in saved
        assert "encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original0" in saved


def test_trap_2_6_loader_options_reach_both_parts(made: Path) -> None:
    """Upstream writes them into the configuration as junk: it says float16, the weights are float32."""
    model = warm_start(made / "hubert", made / "bert", dtype="float16", local_files_only=True)
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert {model.config.dtype, model.config.encoder.dtype, model.config.decoder.dtype} == {"float16"}
    mixed = warm_start(made / "hubert", made / "bert", dtype="float16", decoder_dtype="float32")
    assert (mixed.encoder.dtype, mixed.decoder.dtype) == (torch.float16, torch.float32)


def test_trap_2_6_an_unknown_keyword_is_an_error(made: Path) -> None:
    with pytest.raises(ConfigError, match=r"layerdrop.*encoder_layerdrop"):
        warm_start(made / "hubert", made / "bert", layerdrop=0.0)


@pytest.mark.parametrize("given", ["decoder_config", "nothing"])
def test_trap_2_6_the_decoder_listens_and_never_looks_ahead(
    made: Path, speech: Speech, tmp_path: Path, given: str
) -> None:
    """Upstream takes a configuration without the flags as it is: deaf, and labels leak into the past."""
    config = tiny_config("bert")
    before = copy.deepcopy(config)
    model = warm_start(
        made / "hubert", made / "bert", **({"decoder_config": config} if given == "decoder_config" else {})
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


def test_trap_2_6_evaluation_mode_throughout(made: Path, build: Any, tmp_path: Path) -> None:
    """Upstream's outer module says it is training while its parts are not."""
    build().train().save_pretrained(tmp_path)
    for model in warm_start(made / "hubert", made / "bert"), SpeechEncoderDecoderModel.from_pretrained(tmp_path):
        assert not any(module.training for module in model.modules())


def test_trap_2_6_a_missing_half_is_named(made: Path, build: Any) -> None:
    for half, arguments in ("encoder", (None, made / "bert")), ("decoder", (made / "hubert",)):
        with pytest.raises(ConfigError, match=f"`{half}_pretrained_model_name_or_path` has to be defined"):
            warm_start(*arguments)
    with pytest.raises(ConfigError, match="`decoder_model` must be a TextDecoder"):
        warm_start(made / "hubert", decoder_model=torch.nn.Linear(1, 1))
    with pytest.raises(ModelNotFoundError, match="no-such-folder"):
        warm_start(made / "hubert", made / "no-such-folder", local_files_only=True)


@pytest.mark.parametrize("decoder", ["bert", "gpt2", "bart", "mbart"])
def test_trap_2_6_every_decoder_of_the_page_starts_warm(made: Path, speech: Speech, decoder: str) -> None:
    """GPT-2 crashes upstream since 5.0; of BART and mBART the embedding stays random."""
    model = warm_start(made / "hubert", made / decoder, pad_token_id=1, decoder_start_token_id=3)
    assert model(speech(2), labels=LABELS).loss.isfinite()
    wanted = load_file(made / decoder / "model.safetensors")
    name = {"bert": "bert.embeddings.word_embeddings.weight", "gpt2": "transformer.wte.weight"}
    assert model.decoder.embed.tokens.weight.equal(wanted[name.get(decoder, "model.shared.weight")])


@pytest.mark.parametrize("spelling", ["model.shared.weight", "shared.weight", "model.decoder.embed_tokens.weight"])
@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_trap_2_6_the_shared_embedding_of_bart_under_any_name(
    made: Path, tmp_path: Path, spelling: str, pickled: bool
) -> None:
    def spell(tensors: Tensors) -> Tensors:
        embedding = tensors["model.shared.weight"]
        rest = {
            n: t for n, t in tensors.items() if "embed_tokens" not in n and "shared" not in n and "lm_head" not in n
        }
        return {**rest, spelling: embedding}

    folder = respelled(made / "bart", tmp_path / "bart", spell, pickled=pickled)
    decoder = dragoman.BartForCausalLM.from_pretrained(folder)
    assert decoder.embed.tokens.weight.equal(load_file(made / "bart" / "model.safetensors")["model.shared.weight"])


def test_trap_2_6_what_is_new_is_told(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="dragoman"):
        model = warm_start(made / "hubert", made / "bert", encoder_mask_time_prob=0.1)
    new = model.load_report.fresh
    assert {name for name in new if "cross_attn" not in name} <= {
        "bridge.proj.weight",
        "bridge.proj.bias",
        "encoder.mask_embed",
    }
    assert f"{len(new)} tensors are new and need training" in caplog.text
    assert "lm_head" in caplog.text
    assert "a head that an encoder does not need" in caplog.text


@pytest.mark.parametrize("model_type", ["llama", "opt", "gpt_neox"])
def test_trap_3_12_decoders_without_cross_attention_want_a_choice(made: Path, tmp_path: Path, model_type: str) -> None:
    """Upstream builds them, trains a language model that is deaf, and fails at the very end of the first call."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": 99}))
    save_file({"model.embed_tokens.weight": torch.zeros(99, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ConfigError, match=rf"{model_type}.*no cross-attention.*fusion=\"cross_attention\".*fusion=\"prefix\""
    ):
        warm_start(made / "hubert", tmp_path)


def test_trap_3_1_a_text_model_as_the_encoder_is_refused_by_name(made: Path) -> None:
    with pytest.raises(ConfigError, match=r"bert.*speech"):
        warm_start(made / "bert", made / "bert")
    with pytest.raises(ConfigError, match=r"wav2vec2.*text"):
        warm_start(made / "wav2vec2", made / "wav2vec2")


@pytest.mark.parametrize("width", ["same", "other"])
def test_trap_2_1_projections_of_upstream_are_read_where_they_fit(build: Any, tmp_path: Path, width: str) -> None:
    """Upstream sizes the projection by the stack even behind an adapter of another width."""
    fields = {} if width == "same" else {"encoder_add_adapter": True, "encoder_output_hidden_size": 16}
    build(**fields).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["enc_to_dec_proj.weight"] = torch.ones(24, 32)  # [decoder, encoder's stack]
    save_file(tensors, tmp_path / "model.safetensors")
    if width == "same":
        assert SpeechEncoderDecoderModel.from_pretrained(tmp_path).bridge.proj.weight.eq(1).all()
    else:
        with pytest.raises(CheckpointError, match=r"bridge.proj.weight: \[24, 32\] instead of \[24, 16\]"):
            SpeechEncoderDecoderModel.from_pretrained(tmp_path)


def test_trap_2_6_fields_of_the_parts_by_keyword(made: Path) -> None:
    """Modules that a keyword adds are new, and are named as such."""
    model = warm_start(
        made / "wav2vec2",
        made / "bert",
        encoder_add_adapter=True,
        encoder_layerdrop=0.0,
        decoder_hidden_dropout_prob=0.3,
    )
    assert model.encoder.adapter is not None
    assert (model.config.encoder.layerdrop, model.config.decoder.hidden_dropout_prob) == (0.0, 0.3)
    assert any(name.startswith("encoder.adapter.") for name in model.load_report.fresh)
    with pytest.raises(ConfigError, match=r'layerdorp.*Did you mean "layerdrop"'):
        warm_start(made / "wav2vec2", made / "bert", encoder_layerdorp=0.0)


def test_trap_2_6_options_without_a_meaning_here_leave_no_junk(made: Path, build: Any, tmp_path: Path) -> None:
    """Upstream writes what it does not know into the configuration."""
    idle = {"attn_implementation": "sdpa", "low_cpu_mem_usage": True}
    build().save_pretrained(tmp_path)
    for model in (
        warm_start(made / "hubert", made / "bert", **idle, encoder_attn_implementation="eager"),
        SpeechEncoderDecoderModel.from_pretrained(tmp_path, **idle),
    ):
        for config in model.config, model.config.encoder, model.config.decoder:
            assert not set(config.to_dict()) & set(idle)


def test_an_unknown_option_of_loading_is_an_error(tmp_path: Path) -> None:
    """A misspelt option must not become a field of the configuration that nobody reads."""
    config = dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"))
    dragoman.SpeechEncoderDecoderModel(config=config).save_pretrained(tmp_path)
    with pytest.raises(dragoman.ConfigError, match=r'`dtyp` is neither .* Did you mean "dtype"'):
        dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path, dtyp="float16")
