"""Loading and saving: spellings of tensor names, missing and unexpected tensors, dtypes, files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import dragoman
from dragoman import (
    CheckpointError,
    SpeechEncoderDecoderModel,
)
from dragoman.testing import tiny_config

Tensors = dict[str, torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def rewritten(source: Path, target: Path, rename: Callable[[Tensors], Tensors], *, pickled: bool = False) -> Path:
    """Copy a checkpoint with its tensors changed."""
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    tensors = rename(load_file(source / "model.safetensors"))
    if pickled:
        torch.save(tensors, target / "pytorch_model.bin")
    else:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, target / "model.safetensors")
    return target


def assert_equal(one: torch.nn.Module, other: torch.nn.Module, but: tuple[str, ...] = ()) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.equal(theirs[name]) or any(word in name for word in but), name


@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_gamma_and_beta_of_norms_are_read(checkpoints: Path, tmp_path: Path, pickled: bool) -> None:
    """As in the files of google-bert/bert-base-uncased, which also hold a buffer of position ids."""

    def rename(tensors: Tensors) -> Tensors:
        old = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for n, t in tensors.items()
        }
        return {**old, "bert.embeddings.position_ids": torch.arange(64)[None]}

    folder = rewritten(checkpoints / "bert", tmp_path / "old", rename, pickled=pickled)
    old = dragoman.TextDecoder.from_pretrained(folder)
    assert_equal(old, dragoman.TextDecoder.from_pretrained(checkpoints / "bert"))


@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_both_spellings_of_weight_norm_are_read(checkpoints: Path, tmp_path: Path, pickled: bool) -> None:
    """A mismatch would leave the positional convolution random."""

    def rename(tensors: Tensors) -> Tensors:
        assert any("original0" in name for name in tensors)
        return {
            n.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): t
            for n, t in tensors.items()
        }

    folder = rewritten(checkpoints / "wav2vec2", tmp_path / "old", rename, pickled=pickled)
    assert_equal(
        dragoman.SpeechEncoder.from_pretrained(folder), dragoman.SpeechEncoder.from_pretrained(checkpoints / "wav2vec2")
    )


@pytest.mark.parametrize(
    ("name", "prefix"), [("wav2vec2", "wav2vec2."), ("bert", "bert."), ("gpt2", "transformer."), ("bart", "model.")]
)
def test_files_without_the_prefix_of_the_base_model_are_read(
    checkpoints: Path, tmp_path: Path, name: str, prefix: str
) -> None:
    def rename(tensors: Tensors) -> Tensors:
        return {n.removeprefix(prefix): t for n, t in tensors.items()}

    cls = dragoman.SpeechEncoder if name == "wav2vec2" else dragoman.TextDecoder
    folder = rewritten(checkpoints / name, tmp_path / "bare", rename)
    assert_equal(cls.from_pretrained(folder), cls.from_pretrained(checkpoints / name))


def test_mask_buffers_of_gpt2_are_ignored(checkpoints: Path, tmp_path: Path) -> None:
    def rename(tensors: Tensors) -> Tensors:
        mask = torch.ones(1, 1, 64, 64).tril()
        buffers = {f"transformer.h.{i}.attn.bias": mask for i in range(2)}
        return {**tensors, **buffers, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}

    assert_equal(
        dragoman.TextDecoder.from_pretrained(rewritten(checkpoints / "gpt2", tmp_path / "old", rename)),
        dragoman.TextDecoder.from_pretrained(checkpoints / "gpt2"),
    )


@pytest.mark.parametrize("fault", ["missing", "unexpected", "misshapen"])
def test_missing_unexpected_or_misshapen_tensor_is_refused(build: Any, tmp_path: Path, fault: str) -> None:
    """`transformers` logs a warning and continues."""
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


def test_dtype_is_float32_by_default(build: Any, tmp_path: Path) -> None:
    """As in `transformers` 4; 5 takes the dtype of the file, which is `"auto"` here."""
    build().half().save_pretrained(tmp_path)
    load = SpeechEncoderDecoderModel.from_pretrained
    assert load(tmp_path).dtype == torch.float32
    assert load(tmp_path, dtype="auto").dtype == torch.float16
    assert load(tmp_path, torch_dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="int8"):
        load(tmp_path, dtype="int8")


def test_tied_tensors_are_saved_once(build: Any, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("spelling", ["model.shared.weight", "shared.weight", "model.decoder.embed_tokens.weight"])
@pytest.mark.parametrize("pickled", [True, False], ids=["bin", "safetensors"])
def test_shared_embedding_of_bart_under_any_name(
    checkpoints: Path, tmp_path: Path, spelling: str, pickled: bool
) -> None:
    def rename(tensors: Tensors) -> Tensors:
        embedding = tensors["model.shared.weight"]
        rest = {
            n: t for n, t in tensors.items() if "embed_tokens" not in n and "shared" not in n and "lm_head" not in n
        }
        return {**rest, spelling: embedding}

    folder = rewritten(checkpoints / "bart", tmp_path / "bart", rename, pickled=pickled)
    decoder = dragoman.BartForCausalLM.from_pretrained(folder)
    assert decoder.embed.tokens.weight.equal(
        load_file(checkpoints / "bart" / "model.safetensors")["model.shared.weight"]
    )


@pytest.mark.parametrize("width", ["same", "other"])
def test_projection_of_transformers_is_read_if_it_fits(build: Any, tmp_path: Path, width: str) -> None:
    """`transformers` sizes the projection by the stack even after an adapter of another width."""
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


def test_unknown_option_is_refused(tmp_path: Path) -> None:
    """A misspelt option must not become an unused field of the configuration."""
    config = dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"))
    dragoman.SpeechEncoderDecoderModel(config=config).save_pretrained(tmp_path)
    with pytest.raises(dragoman.ConfigError, match=r'`dtyp` is neither .* Did you mean "dtype"'):
        dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path, dtyp="float16")


def test_saved_folder_has_the_files_and_names_of_transformers(build: Any, tmp_path: Path) -> None:
    """Names, nesting and metadata equal those that `transformers` writes for the same model."""
    torch.manual_seed(0)
    theirs = transformers.SpeechEncoderDecoderModel(
        config=transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
            transformers.AutoConfig.for_model(**tiny_config("wav2vec2").to_dict()),
            transformers.AutoConfig.for_model(**tiny_config("bert").to_dict()),
        )
    )
    theirs.save_pretrained(tmp_path / "theirs")
    build().save_pretrained(tmp_path / "ours")
    files = [{path.name for path in (tmp_path / side).iterdir()} for side in ("theirs", "ours")]
    assert files[0] == files[1]
    wanted, found = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert {name: tensor.shape for name, tensor in wanted.items()} == {n: t.shape for n, t in found.items()}
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["architectures"] == ["SpeechEncoderDecoderModel"]
    assert config["model_type"] == "speech-encoder-decoder"
    assert (config["encoder"]["model_type"], config["decoder"]["model_type"]) == ("wav2vec2", "bert")
    assert config["decoder"]["is_decoder"] is config["decoder"]["add_cross_attention"] is True
    with (tmp_path / "ours" / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header["__metadata__"] == {"format": "pt"}
