"""GGUF files, written here by ggml's package from models of `transformers`: config, tensors, tokenizer, errors."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, trainers

from dragoman import AutoTokenizer, CheckpointError, SpeechEncoderDecoderModel, TextDecoder
from dragoman.checkpoint.formats.gguf import GgufFile
from dragoman.errors import TokenizerError, UntrustedFileError
from dragoman.testing import TOLERANCES, tiny_config

SIZES = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
TEXT = "Hello, I'm 1234 años old!\n  naïve 日本"


def model(kind: str, **fields: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **fields})
    made = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return made


def their_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def tokenizer() -> RustTokenizer:
    backend = RustTokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(["hello world, hello years old"] * 3, trainer)
    return backend


def write(path: Path, source: Any, kind: str, quantised: Any = None, **changes: Any) -> None:
    """Write a GGUF file as the converter of llama.cpp does."""
    config, writer = source.config, gguf.GGUFWriter(path, changes.get("architecture", kind))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if kind == "qwen3":
        writer.add_key_length(config.head_dim)
    backend = tokenizer()
    vocabulary = sorted(backend.get_vocab(), key=backend.get_vocab().get)
    writer.add_tokenizer_model(changes.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if i < 3 else 1 for i in range(len(vocabulary))])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(backend.to_str())["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")
    for name, tensor in source.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads and kind == "llama":  # halves of a head become neighbours
            array = array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        if quantised is not None and array.ndim == 2:
            writer.add_tensor(their_name(name), gguf.quants.quantize(array, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(their_name(name), np.ascontiguousarray(array))
    for name in changes.get("extra", ()):
        writer.add_tensor(name, np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("llama", {}), ("llama", {"tie_word_embeddings": True}), ("qwen2", {}), ("qwen3", {"head_dim": 32})],
)
def test_logits_are_those_of_the_model_that_was_written(kind: str, fields: dict[str, Any], tmp_path: Path) -> None:
    theirs = model(kind, **fields)
    write(tmp_path / "model.gguf", theirs, kind)
    ours = TextDecoder.from_pretrained(tmp_path)
    assert ours.config.model_type == kind
    assert ours.config.eos_token_id == 2
    tokens = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert expected.std() > 0.1
        assert (ours(tokens).logits - expected).abs().max() <= TOLERANCES["logits"]


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q8_0", "F16"])
def test_quantised_numbers_equal_those_of_ggml(name: str, tmp_path: Path) -> None:
    theirs, kind = model("llama"), gguf.GGMLQuantizationType[name]
    write(tmp_path / "model.gguf", theirs, "llama", kind)
    ours = TextDecoder.from_pretrained(tmp_path)
    matrix = theirs.state_dict()["model.layers.0.mlp.up_proj.weight"].numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(matrix, kind), kind)
    assert np.array_equal(ours.stack.layers[0].ffn.in_proj.weight.detach().numpy(), expected)
    assert 0 < np.abs(expected - matrix).max() < 0.1


def test_the_tokenizer(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", model("llama"), "llama")
    ours, theirs = AutoTokenizer.from_pretrained(tmp_path), tokenizer()
    for text in TEXT, "<|im_start|>hello<|im_end|>", "":
        assert ours(text)["input_ids"] == theirs.encode(text).ids
        assert ours.decode(ours(text)["input_ids"]) == text
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<|im_start|>", "<|im_end|>", None)
    assert ours.decode([0, *ours("hello")["input_ids"]], skip_special_tokens=True) == "hello"
    ours.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(TEXT)["input_ids"] == ours(TEXT)["input_ids"]


def test_unsupported_models_are_named(tmp_path: Path) -> None:
    path, made = tmp_path / "model.gguf", model("llama")
    write(path, made, "llama", architecture="falcon")
    with pytest.raises(CheckpointError, match="'falcon' model; dragoman reads llama, qwen2, qwen3"):
        TextDecoder.from_pretrained(tmp_path)
    write(path, made, "llama", extra=["rope_freqs.weight"])
    with pytest.raises(CheckpointError, match="scaled rotary positions"):
        TextDecoder.from_pretrained(tmp_path)
    write(path, made, "llama", extra=["blk.0.ffn_gate_inp.weight"])
    with pytest.raises(CheckpointError, match=r"unknown in a llama model: blk\.0\.ffn_gate_inp"):
        TextDecoder.from_pretrained(tmp_path)
    write(path, made, "llama", tokenizer="llama")
    with pytest.raises(TokenizerError, match="kind 'llama'"):
        AutoTokenizer.from_pretrained(tmp_path)
    write(path, made, "llama", pre="deepseek")
    with pytest.raises(TokenizerError, match="pre-tokenizer 'deepseek'"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_truncated_files_and_garbage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, model("llama"), "llama")
    whole = path.read_bytes()
    for content in b"", b"GGUF", b"not a gguf file at all", whole[:200], whole[: len(whole) // 2], whole[:9_000]:
        path.write_bytes(content)
        with pytest.raises(UntrustedFileError, match="not a GGUF file"):
            GgufFile(path)


def test_a_file_is_parsed_once_for_model_and_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder = tmp_path / "encoder", tmp_path / "decoder"
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**tiny_config("wav2vec2").to_dict())).save_pretrained(
        encoder
    )
    decoder.mkdir()
    write(decoder / "model.gguf", model("llama"), "llama")
    parsed = []

    class CountingReader(gguf.GGUFReader):
        def __init__(self, path: Path) -> None:
            parsed.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", CountingReader)
    SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder, fusion="prefix")
    assert AutoTokenizer.from_pretrained(decoder).eos_token == "<|im_end|>"
    assert TextDecoder.from_pretrained(decoder).config.hidden_size == 64
    assert parsed == [decoder / "model.gguf"]
    write(decoder / "model.gguf", model("llama", hidden_size=32), "llama")
    assert TextDecoder.from_pretrained(decoder).config.hidden_size == 32
