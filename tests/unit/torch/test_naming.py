"""Parameters and modules by their names in `transformers`."""

import json
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import dragoman
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, find
from dragoman.testing import tiny_config
from dragoman.testing.configs import VARIANTS
from dragoman.torch.parts import SpeechEncoder, TextDecoder
from dragoman.torch.views import ModuleView

from .conftest import Build

DECODER = {"is_decoder": True, "add_cross_attention": True}
# `transformers` has two biases where the head is untied, and reads only one
EXTRA = {"cls.predictions.bias", "lm_head.bias"}
ALSO = {"embed_out.weight": "lm_head.weight"}  # the names in GPT-NeoX's files and, newly, in its class


def theirs_of(part: Any, config: Any) -> nn.Module | None:
    """Return the same part in `transformers`, where it has the class."""
    cls = getattr(transformers, part.classes[0], None)
    if cls is None or config.model_type == "gpt_bigcode":  # which has no cross-attention there
        return None
    module: nn.Module = cls(cls.config_class.from_dict(json.loads(config.to_json_string())))
    return module


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_have_the_names_of_transformers(name: str, tied: bool) -> None:
    model_type, fields = VARIANTS[name]
    family = find(model_type)
    decoder = {**DECODER, "tie_word_embeddings": tied}
    for part, cls, extra in (family.speech, SpeechEncoder, {}), (family.text, TextDecoder, decoder):
        if part is None:
            continue
        config = tiny_config(model_type, **{**fields, **extra})
        theirs = theirs_of(part, config)
        if theirs is None:
            continue
        found = {name for name, _ in cls(config).hf_named_parameters()}
        found = {ALSO[name] if ALSO.get(name) in theirs.state_dict() else name for name in found}
        doubles = {name: id(tensor) for name, tensor in theirs.state_dict(keep_vars=True).items()}
        covered = {doubles[name] for name in found if name in doubles}
        rest = {name for name, parameter in theirs.named_parameters() if id(parameter) not in covered}
        assert rest - EXTRA == {name for name in rest if "pos_conv_embed" in name and "conformer" in model_type}
        inserted = {name for name in found if ".cross_attn" in name and not part.cross_attends}
        assert found - set(doubles) == inserted


@pytest.mark.parametrize(
    ("encoder", "decoder", "path", "ours"),
    [
        ("wav2vec2", "bart", "encoder.feature_extractor.conv_layers.1.conv", "encoder.frontend.convs.1.conv"),
        ("wav2vec2", "bart", "encoder.feature_projection.projection", "encoder.frontend.proj"),
        ("wav2vec2", "bart", "encoder.encoder.layers.1.attention.k_proj", "encoder.stack.layers.1.self_attn.k_proj"),
        ("wav2vec2", "bart", "encoder.encoder.layer_norm", "encoder.input_norm"),
        (
            "wav2vec2",
            "bart",
            "decoder.model.decoder.layers.0.encoder_attn.v_proj",
            "decoder.stack.layers.0.cross_attn.v_proj",
        ),
        ("wav2vec2", "bart", "decoder.model.decoder.embed_tokens", "decoder.embed.tokens"),
        ("hubert", "bert", "decoder.bert.encoder.layer.0.intermediate.dense", "decoder.stack.layers.0.ffn.in_proj"),
        ("hubert", "bert", "decoder.cls.predictions.transform.dense", "decoder.head.transform"),
        ("wavlm", "gpt2", "decoder.transformer.h.0.ln_cross_attn", "decoder.stack.layers.0.cross_attn_norm"),
        (
            "wav2vec2",
            "t5",
            "decoder.decoder.block.0.layer.1.EncDecAttention.q",
            "decoder.stack.layers.0.cross_attn.q_proj",
        ),
        ("whisper", "whisper", "encoder.layers.0.fc1", "encoder.stack.layers.0.ffn.in_proj"),
        (
            "wav2vec2-bert",
            "bart",
            "encoder.encoder.layers.0.ffn1.output_dense",
            "encoder.stack.layers.0.ffn1.out_proj",
        ),
    ],
)
def test_paths_of_transformers_lead_to_our_modules(
    build: Build, encoder: str, decoder: str, path: str, ours: str
) -> None:
    model = build(encoder, decoder)
    found: Any = model
    for word in path.split("."):
        found = found[int(word)] if word.isdigit() else getattr(found, word)
    assert found is model.get_submodule(ours)


def test_a_view_freezes_trains_and_lists_its_parameters(build: Build) -> None:
    model = build("wav2vec2", "bert")
    view = model.encoder.feature_extractor
    assert isinstance(view, ModuleView)
    assert next(name for name, _ in view.named_parameters()) == "conv_layers.0.conv.weight"
    view.requires_grad_(False)
    assert {name for name, p in model.encoder.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.encoder.named_parameters() if name.startswith("frontend.convs")
    }
    layers = model.decoder.bert.encoder.layer
    assert len(layers) == len(list(layers)) == len(layers[-2:]) == 2
    layers[0].train()
    assert model.decoder.stack.layers[0].training
    assert not model.decoder.stack.layers[1].training


def test_a_view_reads_and_writes_tensors_as_transformers_stores_them(build: Build) -> None:
    model, other = build("wav2vec2", "gpt2"), build("wav2vec2", "gpt2")
    state = {name: torch.randn_like(tensor) for name, tensor in model.decoder.transformer.h[0].state_dict().items()}
    assert state["attn.c_attn.weight"].shape == (24, 72)
    other.decoder.transformer.h[0].load_state_dict(state)
    found = other.decoder.transformer.h[0].state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    with pytest.raises(RuntimeError, match="Missing"):
        other.decoder.transformer.h[0].load_state_dict({})


def test_what_is_not_one_to_one_says_what_is_meant(build: Build) -> None:
    model = build("wav2vec2", "gpt2")
    layer = model.decoder.transformer.h[0]
    with pytest.raises(AttributeError, match=r"q_proj.weight and .*k_proj.weight and .*v_proj.weight here: fused"):
        _ = layer.attn.c_attn.weight
    with pytest.raises(AttributeError, match=r"ffn.in_proj.weight here: stored transposed"):
        _ = layer.mlp.c_fc.weight
    with pytest.raises(ConfigError, match=r"cannot have a hook.*positions, input_norm, stack"):
        model.encoder.encoder.register_forward_hook(print)
    with pytest.raises(ConfigError, match="cannot be called alone"):
        layer(torch.zeros(1, 1, 24))
    with pytest.raises(AttributeError, match="no attribute 'conv9'"):
        _ = model.encoder.conv9
    with pytest.raises(AttributeError, match=r"has no .c_gc.: it is `stack"):
        _ = model.decoder.transformer.h[0].mlp.c_gc


def test_modules_are_replaced_at_paths_of_transformers(build: Build) -> None:
    model = build("wav2vec2", "bart")
    new = nn.Linear(24, 30)
    model.decoder.model.decoder.layers[0].fc1 = new
    assert model.decoder.stack.layers[0].ffn.in_proj is new
    mask = nn.Parameter(torch.randn(32))
    model.encoder.masked_spec_embed = mask
    assert model.encoder.mask_embed is mask
    layers = model.encoder.encoder.layers
    model.encoder.encoder.layers = nn.ModuleList([layers[1], layers[0]])
    assert model.encoder.stack.layers[0] is layers[1].target or model.encoder.stack.layers[0] is layers[0].target
    with pytest.raises(ConfigError, match="number of layers follows from the configuration"):
        model.encoder.encoder.layers = nn.ModuleList([layers[0]])
    with pytest.raises(ConfigError, match="is called as such"):
        model.decoder.model.decoder.layers[0] = nn.Linear(2, 2)


def test_freeze_takes_either_naming_and_refuses_what_matches_nothing(build: Build) -> None:
    model = build("wav2vec2", "bart")
    frozen = model.freeze("encoder.feature_extractor", "decoder.model.decoder.layers.*.fc1.*", "decoder.embed.norm")
    assert "encoder.feature_extractor.conv_layers.0.conv.weight" in frozen
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("encoder.frontend.convs", "decoder.embed.norm"))
        or (".ffn.in_proj" in name and "decoder" in name)
    }
    model.freeze("encoder.*", trainable=True)
    assert all(p.requires_grad for p in model.encoder.parameters())
    with pytest.raises(ConfigError, match=r"No parameter is called 'encoder\.feature_extractr'"):
        model.freeze("encoder.feature_extractr")


def test_first_words_of_transformers_hide_no_attribute_of_ours() -> None:
    for family in FAMILIES:
        for part, cls in (family.speech, SpeechEncoder), (family.text, TextDecoder):
            if part is not None:
                config = tiny_config(family.model_type, **({} if cls is SpeechEncoder else DECODER))
                words = {rule.theirs.partition(".")[0] for rule in part.rules(config)} - {"*"}
                assert words & set(dir(cls(config, empty=True))) <= {"adapter"}


def grouped(names: Any, no_decay: list[str]) -> list[str]:
    """Return the names without weight decay, as training scripts choose them."""
    return [name for name, _ in names if any(part in name for part in no_decay)]


@pytest.mark.parametrize(
    "no_decay", [["bias", "LayerNorm.weight"], ["layer_norm", "layernorm_embedding"], ["encoder.feature_extractor"]]
)
@pytest.mark.parametrize("decoder", ["bert", "bart"])
def test_name_filters_of_scripts_choose_the_parameters_of_transformers(
    build: Build, decoder: str, no_decay: list[str]
) -> None:
    model = build("wav2vec2", decoder)
    theirs = dict(zip((id(p) for _, p in model.hf_named_parameters()), model.hf_named_parameters(), strict=True))
    chosen = {id(p) for name, p in model.named_parameters() if any(part in name for part in no_decay)}
    expected = {key for key, (name, _) in theirs.items() if any(part in name for part in no_decay)}
    assert chosen == expected


def test_a_name_is_a_string_of_ours_that_answers_to_both(build: Build, tmp_path: Any) -> None:
    model = build("wav2vec2", "bert")
    name = next(name for name, p in model.named_parameters() if p is model.decoder.stack.layers[0].ffn.in_proj.weight)
    assert type(str(name)) is str
    assert name == "decoder.stack.layers.0.ffn.in_proj.weight"
    assert {name: 1}["decoder.stack.layers.0.ffn.in_proj.weight"] == 1
    assert name.startswith("decoder.bert.encoder.layer.0")
    assert name.startswith(("nothing", "decoder.bert"))
    assert name.endswith("intermediate.dense.weight")
    assert "intermediate" in name
    assert "crossattention" not in name
    with pytest.warns(UserWarning, match=r"'encoder' chooses \d+ parameters or modules by the names of transformers"):
        assert "encoder" in name
    assert name.split(".")[4] == name.removeprefix("decoder.bert.encoder.layer.")[0] == "0"
    assert name[len("decoder.") :].partition(".")[0] == "bert"
    optimizer = torch.optim.AdamW(model.named_parameters())
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.load(tmp_path / "optimizer.pt", weights_only=True)


@pytest.mark.parametrize(("encoder", "decoder"), [("wav2vec2", "bart"), ("hubert", "gpt2"), ("whisper", "whisper")])
def test_state_dicts_of_either_naming_load_with_the_return_of_pytorch(build: Build, encoder: str, decoder: str) -> None:
    model, other = build(encoder, decoder), build(encoder, decoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    state = dict(other.state_dict())
    cut = {name: tensor for name, tensor in state.items() if ".layers.0." not in name and ".h.0." not in name}
    found = model.load_state_dict({**cut, "decoder.extra": torch.ones(1)}, strict=False)
    assert set(found.missing_keys) == state.keys() - cut.keys()
    assert found.unexpected_keys == ["decoder.extra"]
    with pytest.raises(RuntimeError, match=r"Missing key.*0\."):
        model.load_state_dict(cut)
    assert model.load_state_dict(state).missing_keys == []
    ours = {name: parameter.detach() for name, parameter in other.named_parameters()}
    model = build(encoder, decoder)
    model.load_state_dict(ours, strict=False)
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    prefix = "model.encoder." if encoder == "whisper" else "encoder."
    alone = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    assert build(encoder, decoder).encoder.load_state_dict(alone).missing_keys == []


def test_an_adapter_answers_to_both_names() -> None:
    config = tiny_config("wav2vec2", add_adapter=True, output_hidden_size=24)
    encoder: Any = SpeechEncoder(config)
    assert encoder.adapter.layers[0].conv.weight is encoder.adapter.layers[0].weight
    assert encoder.adapter.proj_layer_norm is encoder.adapter.norm
    encoder.freeze("adapter.layers.0.conv")
    assert not encoder.adapter.layers[0].weight.requires_grad


def test_paths_of_a_whisper_of_transformers(build: Build, tmp_path: Any) -> None:
    model: Any = build("whisper", "whisper")
    assert model.decoder.proj_out.weight is model.decoder.embed.tokens.weight
    whole = transformers.WhisperConfig(**tiny_config("whisper").to_dict())
    theirs = transformers.WhisperForConditionalGeneration(whole)
    theirs.save_pretrained(tmp_path)
    ours: Any = dragoman.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    assert {name for name, _ in ours.hf_named_parameters()} == {name for name, _ in theirs.named_parameters()}
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.model.encoder.layers[0].fc1.weight, theirs.model.encoder.layers[0].fc1.weight)
    ours.model.encoder.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in ours.encoder.parameters())
    ours.proj_out = nn.Linear(24, 99, bias=False)
    assert ours.decoder.head.weight is ours.get_output_embeddings().weight
