"""What stands around the model: types of numbers, compilation, parts alone, outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dragoman
from dragoman import SpeechEncoder, SpeechEncoderDecoderModel
from dragoman.families import FAMILIES
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])
MASK = (torch.arange(1600) < torch.tensor([[1600], [900]])).long()
KINDS = ("bert", "gpt2", "bart", "mbart")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("decoder", KINDS)
def test_types_of_numbers(build: Any, speech: Speech, tmp_path: Path, dtype: torch.dtype, decoder: str) -> None:
    """The loss of any type is that of float32 as far as the type can tell; audio comes as float32."""
    model = build(decoder=decoder)
    wanted = model(speech(2), MASK, labels=LABELS).loss
    model.save_pretrained(tmp_path)
    loaded = SpeechEncoderDecoderModel.from_pretrained(tmp_path, dtype=dtype)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    output = loaded(speech(2), MASK, labels=LABELS)
    assert output.logits.dtype == dtype
    tolerance = 0.2 if dtype == torch.bfloat16 else 0.03 if dtype == torch.float16 else 1e-4
    torch.testing.assert_close(output.loss.float(), wanted, atol=tolerance, rtol=0)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in loaded.parameters() if p.grad is not None)
    assert loaded.generate(speech(2), attention_mask=MASK, max_new_tokens=4).shape[0] == 2


def test_half_is_a_method_of_the_model(build: Any, speech: Speech) -> None:
    model = build().half()
    assert (model.dtype, model.encoder.dtype) == (torch.float16, torch.float16)
    assert model.generate(speech(2), attention_mask=MASK, num_beams=2, max_new_tokens=4).shape[0] == 2
    assert model.bfloat16().generate(speech(2), max_new_tokens=4).shape[0] == 2


@pytest.mark.parametrize("decoder", KINDS)
def test_autocast(build: Any, speech: Speech, decoder: str) -> None:
    """Forward, backward and generation; weights stay float32 and so does the loss."""
    model = build(decoder=decoder).train()
    wanted = build(decoder=decoder)(speech(2), MASK, labels=LABELS).loss
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.eval()(speech(2), MASK, labels=LABELS).loss, wanted, atol=0.2, rtol=0)
        loss = model.train()(speech(2), MASK, labels=LABELS).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.encoder.stack.layers[0].ffn.in_proj.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert model.eval().generate(speech(2), attention_mask=MASK, max_new_tokens=4).shape[0] == 2


LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ENCODERS: list[tuple[str, dict[str, Any]]] = [
    *[(family.model_type, {}) for family in FAMILIES if family.speech],
    ("wav2vec2", {**LAYER_NORM, "add_adapter": True, "adapter_attn_dim": 8}),
    ("hubert", {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}),
    ("wavlm", LAYER_NORM),
]


# Those that another one of the list has every part of: compiled to machine code at night only.
COVERED = [("wav2vec2", {}), ("hubert", {}), ("wavlm", {}), ("unispeech", {}), ("unispeech-sat", {})]


def compiles(name: str, fields: dict[str, Any], backend: str) -> None:
    encoder = SpeechEncoder(tiny_config(name, **fields)).eval()
    front = encoder.spec.frontend
    size = {"samples": 1600, "frames": 60}
    audio = {encoder.main_input_name: torch.randn([2, *(size.get(axis, 8) for axis in front.axes[1:])])}
    if front.masked:
        long = audio[encoder.main_input_name].shape[1]
        audio["attention_mask"] = (torch.arange(long) < torch.tensor([[long], [long * 9 // 16]])).long()
    torch.compiler.reset()
    compiled = torch.compile(encoder, fullgraph=True, backend=backend)
    with torch.no_grad():
        found, wanted = compiled(**audio), encoder(**audio)
    torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "fields"), ENCODERS)
def test_the_encoder_compiles_without_a_break(name: str, fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    compiles(name, fields, "eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor uses what PyTorch itself calls outdated
@pytest.mark.parametrize(
    ("name", "fields"),
    [pytest.param(*one, marks=pytest.mark.nightly if one in COVERED else pytest.mark.slow) for one in ENCODERS],
)
def test_the_encoder_compiles_to_machine_code(name: str, fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    compiles(name, fields, "inductor")


def test_the_whole_forward_compiles(build: Any, speech: Speech) -> None:
    model = build()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(
        compiled(speech(2), MASK, labels=LABELS).loss, model(speech(2), MASK, labels=LABELS).loss
    )


def test_models_are_exported(build: Any, speech: Speech) -> None:
    """Outputs are objects, and `torch.export`, like whatever shards a model, must see the tensors in them."""
    model, tokens = build(), LABELS.clamp(min=0)
    with torch.no_grad():
        encoder = torch.export.export(model.encoder, (speech(2),)).module()
        torch.testing.assert_close(encoder(speech(2)).last_hidden_state, model.encoder(speech(2)).last_hidden_state)
        given = {"input_values": speech(2), "decoder_input_ids": tokens}
        whole = torch.export.export(model, (), given).module()
        torch.testing.assert_close(whole(**given).logits, model(**given).logits)
        decoder = torch.export.export(model.decoder, (tokens,)).module()
        torch.testing.assert_close(decoder(tokens).logits, model.decoder(tokens).logits)


PARTS = {
    "Wav2Vec2Model": "wav2vec2",
    "HubertModel": "hubert",
    "BertLMHeadModel": "bert",
    "BertForCausalLM": "bert",
    "GPT2LMHeadModel": "gpt2",
    "BartForCausalLM": "bart",
    "MBartForCausalLM": "mbart",
}


@pytest.mark.parametrize(("name", "family"), PARTS.items())
def test_parts_live_alone_and_together(build: Any, speech: Speech, tmp_path: Path, name: str, family: str) -> None:
    """Built, run, saved, loaded, and joined to another, as classes and as ready-made objects."""
    flags = {} if family in ("wav2vec2", "hubert") else {"is_decoder": True, "add_cross_attention": True}
    cls = getattr(dragoman, name)
    part = cls(tiny_config(family, **flags)).eval()
    inputs = torch.tensor([[4, 5, 6]]) if flags else speech(1)
    output = part(inputs)
    values = part(inputs, return_dict=False)
    first = "logits" if flags else "last_hidden_state"
    assert isinstance(values, tuple)
    assert output[first] is output[0] is getattr(output, first)
    assert values[0].equal(output[0])
    part.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert again(inputs)[0].equal(output[0])
    half = build()
    other = {"decoder": half.decoder} if not flags else {"encoder": half.encoder}
    own = {"decoder" if flags else "encoder": again}
    joined = SpeechEncoderDecoderModel(**other, **own)
    named = {f"{role}_model": part for role, part in (other | own).items()}
    warm = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(**named, decoder_start_token_id=3, pad_token_id=1)
    for model in joined, warm:
        assert model.get_decoder() is (other | own)["decoder"]
        assert model(speech(1), decoder_input_ids=torch.tensor([[4, 5]])).logits.isfinite().all()


def test_a_part_of_another_family_is_refused_by_its_class(tmp_path: Path) -> None:
    with pytest.raises(dragoman.ConfigError, match=r"HubertModel takes a HubertConfig.*'wav2vec2'"):
        dragoman.HubertModel(tiny_config("wav2vec2"))
    dragoman.BertLMHeadModel(tiny_config("bert")).save_pretrained(tmp_path)
    with pytest.raises(dragoman.ConfigError, match="GPT2"):
        dragoman.GPT2LMHeadModel.from_pretrained(tmp_path)
