"""Modules that users replace, hook and subclass: in `forward`, in `generate` and in what is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman import BertLMHeadModel, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.errors import ConfigError, GenerationError
from dragoman.testing import tiny_config
from dragoman.torch.parts import SpeechEncoder

from .conftest import Build

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])
OPTIONS: list[dict[str, Any]] = [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}]


@pytest.fixture
def speech() -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, 2000, dtype=torch.long)
    mask[1, 1500:] = 0
    return {"input_values": torch.randn(2, 2000), "attention_mask": mask}


@pytest.mark.parametrize("decoder", ["bart", "bert", "gpt2", "t5"])
def test_hooks_fire_in_forward_and_at_each_step_of_generate(build: Build, speech: Any, decoder: str) -> None:
    model = build("wav2vec2", decoder)
    assert (
        model.step_call(model.encode(speech["input_values"]), (None, None, None), all_states=False, weights=False)
        is None
    )
    plain = model(**speech, labels=LABELS)
    lengths = {"max_new_tokens": 5, "min_new_tokens": 5}
    expected = [model.generate(**speech, **lengths, **options) for options in OPTIONS]
    counts = dict.fromkeys(("encoder", "decoder", "layer", "model"), 0)
    seen: list[dict[str, Any]] = []

    def count(name: str) -> Any:
        return lambda *_: counts.update({name: counts[name] + 1})

    model.encoder.register_forward_hook(count("encoder"))
    model.decoder.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    model.decoder.register_forward_hook(count("decoder"))
    model.decoder.stack.layers[0].register_forward_hook(count("layer"))
    output = model(**speech, labels=LABELS)
    torch.testing.assert_close(output.logits, plain.logits)
    torch.testing.assert_close(output.loss, plain.loss)
    assert counts == {"encoder": 1, "decoder": 1, "layer": 1, "model": 0}
    assert torch.equal(model.generate(**speech, **lengths), expected[0])
    assert counts == {"encoder": 2, "decoder": 6, "layer": 6, "model": 0}
    assert {"input_ids", "encoder_hidden_states", "encoder_attention_mask", "past_key_values"} <= set(seen[-1])
    model.register_forward_hook(count("model"))
    for options, ids in zip(OPTIONS, expected, strict=True):
        assert torch.equal(model.generate(**speech, **lengths, **options), ids)
    assert counts["model"] == counts["decoder"] - 6 == 15


@pytest.mark.parametrize("family", ["bart", "bert", "whisper"])
def test_hooks_on_every_module_with_parameters_fire(build: Build, speech: Any, family: str) -> None:
    model = build("wav2vec2", family)
    fired = set()
    leaves = {name: m for name, m in model.named_modules() if list(m.parameters(recurse=False)) and name != "encoder"}
    before = model(**speech, labels=LABELS).logits
    for name, module in leaves.items():
        module.register_forward_hook(lambda *_, name=name: fired.add(name))  # type: ignore[misc]
    torch.testing.assert_close(model(**speech, labels=LABELS).logits, before)
    assert fired == set(leaves)


class Shifted(BertLMHeadModel):  # type: ignore[misc, valid-type]
    """Prefers token 7."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + 50 * nn.functional.one_hot(torch.tensor(7), output.logits.shape[-1])
        return output


class Quiet(SpeechEncoder):
    """Encodes silence."""

    def forward(self, inputs: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        return super().forward(torch.zeros_like(inputs), attention_mask=attention_mask, **kwargs)


class Doubled(SpeechEncoderDecoderModel):
    """Prefers token 8."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output["logits"] = output.logits + 50 * nn.functional.one_hot(torch.tensor(8), output.logits.shape[-1])
        return output


def same(model: SpeechEncoderDecoderModel, cls: type[Any], **parts: Any) -> Any:
    """Return a model of a subclass with the same weights."""
    encoder, decoder = parts.get("encoder", model.encoder), parts.get("decoder", model.decoder)
    found = cls(config=model.config, encoder=encoder, decoder=decoder).eval()
    found.load_state_dict(model.state_dict())
    return found


def test_a_decoder_with_its_own_forward_takes_effect_everywhere(build: Build, speech: Any) -> None:
    model = build("wav2vec2", "bert")
    mine = same(model, SpeechEncoderDecoderModel, decoder=Shifted(model.config.decoder))
    difference = mine(**speech, labels=LABELS).logits - model(**speech, labels=LABELS).logits
    assert difference[..., 7].allclose(torch.tensor(50.0))
    for options in (*OPTIONS[:2], {"return_dict_in_generate": True, "output_scores": True}):
        found = mine.generate(**speech, max_new_tokens=4, **options)
        ids = found if isinstance(found, Tensor) else found.sequences
        assert ids[:, 1:4].eq(7).all()
    mine.train()(**speech, labels=LABELS).loss.backward()
    assert mine.decoder.embed.tokens.weight.grad is not None


def test_an_encoder_with_its_own_forward_takes_effect(build: Build, speech: Any) -> None:
    model = build("wav2vec2", "bart")
    mine = same(model, SpeechEncoderDecoderModel, encoder=Quiet(model.config.encoder))
    silence = {**speech, "input_values": torch.zeros(2, 2000)}
    torch.testing.assert_close(mine(**speech, labels=LABELS).logits, model(**silence, labels=LABELS).logits)
    assert torch.equal(mine.generate(**speech, max_new_tokens=5), model.generate(**silence, max_new_tokens=5))


def test_a_model_with_its_own_forward_takes_effect_in_generate(build: Build, speech: Any) -> None:
    model = build("wav2vec2", "bart")
    mine = same(model, Doubled)
    for options in OPTIONS[:2]:
        assert mine.generate(**speech, max_new_tokens=4, **options)[:, 1:4].eq(8).all()


def test_a_forward_assigned_to_a_part_takes_effect(build: Build, speech: Any) -> None:
    model = build("wav2vec2", "bart")
    plain, first = model(**speech, labels=LABELS).logits, model.decoder.forward

    def forward(**kwargs: Any) -> Any:
        output = first(**kwargs)
        return {**output, "logits": output.logits + 1}

    model.decoder.forward = forward  # type: ignore[method-assign]
    torch.testing.assert_close(model(**speech, labels=LABELS).logits, plain + 1)
    assert model.generate(**speech, max_new_tokens=3).shape == (2, 4)
    model.decoder.forward = lambda **_: None  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="must return a CausalLMOutput"):
        model(**speech, labels=LABELS)


def test_hooks_may_change_what_a_decoder_returns(build: Build, speech: Any) -> None:
    model = build("wav2vec2", "bart")

    def seven(_: Any, __: Any, output: Any) -> Any:
        output.logits[..., 7] += 50
        return output

    handle = model.decoder.register_forward_hook(seven)
    assert model.generate(**speech, max_new_tokens=4)[:, 1:4].eq(7).all()
    handle.remove()
    assert not model.generate(**speech, max_new_tokens=4)[:, 1:4].eq(7).all()


@pytest.mark.parametrize(
    ("decoder", "head"),
    [("bart", "lm_head"), ("bert", "cls.predictions.decoder"), ("gpt2", "lm_head"), ("t5", "lm_head")],
)
@pytest.mark.parametrize("by_name", [True, False])
def test_a_replaced_head_is_used_trained_and_saved(
    build: Build, speech: Any, tmp_path: Path, decoder: str, head: str, by_name: bool
) -> None:
    model = build("wav2vec2", decoder)
    plain = model(**speech, labels=LABELS).logits
    new = nn.Linear(24, 99, bias=decoder == "bert")
    if by_name:
        owner: Any = model.decoder
        *path, last = head.split(".")
        for word in path:
            owner = getattr(owner, word)
        setattr(owner, last, new)
    else:
        model.set_output_embeddings(new)
    output = model(**speech, labels=LABELS)
    assert not torch.allclose(output.logits, plain)
    output.loss.backward()
    assert new.weight.grad is not None
    assert not model.config.decoder.tie_word_embeddings
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**speech, labels=LABELS).logits, output.logits)
    assert torch.equal(again.generate(**speech, max_new_tokens=5), model.generate(**speech, max_new_tokens=5))


def test_a_replaced_projection_is_used_and_saved(build: Build, speech: Any, tmp_path: Path) -> None:
    model = build("wav2vec2", "bart")
    new = nn.Linear(32, 24)
    model.enc_to_dec_proj = new
    assert model.enc_to_dec_proj is model.bridge.proj is new
    logits = model(**speech, labels=LABELS).logits
    logits.sum().backward()
    assert new.weight.grad is not None
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**speech, labels=LABELS).logits, logits)
    model.enc_to_dec_proj = nn.Sequential(nn.Linear(32, 24), nn.Tanh())
    assert not torch.allclose(model(**speech, labels=LABELS).logits, logits)


def test_replaced_parts_bring_their_configuration(build: Build, speech: Any, tmp_path: Path) -> None:
    model, other = build("wav2vec2", "bart"), build("hubert", "bert")
    model.encoder, model.decoder, model.enc_to_dec_proj = other.encoder, other.decoder, other.enc_to_dec_proj
    torch.testing.assert_close(model(**speech, labels=LABELS).logits, other(**speech, labels=LABELS).logits)
    assert torch.equal(model.generate(**speech, max_new_tokens=5), other.generate(**speech, max_new_tokens=5))
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert (again.config.encoder.model_type, again.config.decoder.model_type) == ("hubert", "bert")
    torch.testing.assert_close(again(**speech, labels=LABELS).logits, other(**speech, labels=LABELS).logits)


def test_what_cannot_replace_a_module_is_refused(build: Build) -> None:
    model = build("wav2vec2", "bart")
    with pytest.raises(ConfigError, match=r"must be an nn.Linear\(32, 24\) with a bias"):
        model.enc_to_dec_proj = nn.Linear(31, 24)
    with pytest.raises(ConfigError, match=r"replaced by an nn.Linear\(24, 99\)"):
        model.decoder.lm_head = nn.Linear(24, 100)
    with pytest.raises(ConfigError, match="has no bias, in its checkpoints either"):
        model.decoder.lm_head = nn.Linear(24, 99)
    with pytest.raises(ConfigError, match="must be a speech encoder of dragoman"):
        model.encoder = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"Compile in place instead, by model.encoder.compile"):
        model.encoder = torch.compile(model.encoder, backend="eager")
    with pytest.raises(ConfigError, match="must be a text decoder of dragoman"):
        model.decoder = model.encoder
    equal = build("wav2vec2", "bart")
    equal.bridge.proj = None
    with pytest.raises(ConfigError, match="there is none"):
        equal.enc_to_dec_proj = nn.Linear(32, 24)


def test_methods_that_code_for_transformers_calls(build: Build, speech: Any) -> None:
    model = build("wav2vec2", "bart")
    encoder = model.encoder
    assert encoder._get_feat_extract_output_lengths(torch.tensor([2000, 1500])).tolist() == [50, 37]
    mask = encoder._get_feature_vector_attention_mask(50, speech["attention_mask"])
    assert mask.sum(-1).tolist() == [50, 37]
    assert model.base_model is model
    assert model.get_encoder() is encoder
    model.freeze_feature_extractor()
    assert not any(p.requires_grad for p in encoder.feature_extractor.parameters())
    ids = torch.tensor([[0, 5, 6]])
    inputs = model.prepare_inputs_for_generation(ids, encoder_outputs=encoder(**speech), use_cache=True)
    assert torch.equal(inputs["decoder_input_ids"], ids)
    model.requires_grad_(False)
    model.enable_input_require_grads()
    assert model.train()(**speech, labels=LABELS).loss.requires_grad
    model.disable_input_require_grads()
    assert not model(**speech, labels=LABELS).loss.requires_grad


class Multitask(SpeechEncoderDecoderModel):
    """With a second head, as scripts add it."""

    def __init__(self, config: Any = None, encoder: Any = None, decoder: Any = None) -> None:
        super().__init__(config, encoder, decoder)
        self.ctc_head = nn.Linear(self.config.encoder.hidden_size, 10)


class Recogniser(SpeechEncoder):
    """With a head whose name checkpoints of other models have."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, 10)


def test_modules_that_a_subclass_adds_are_saved_and_loaded(build: Build, speech: Any, tmp_path: Path) -> None:
    model = build("wav2vec2", "bart")
    mine = Multitask(encoder=model.encoder, decoder=model.decoder)
    assert "ctc_head.weight" in mine.state_dict()
    mine.save_pretrained(tmp_path / "plain")
    again = Multitask.from_pretrained(tmp_path / "plain")
    assert torch.equal(again.ctc_head.weight, mine.ctc_head.weight)
    assert torch.equal(again.encoder.mask_embed, mine.encoder.mask_embed)
    model.save_pretrained(tmp_path / "without")
    fresh = Multitask.from_pretrained(tmp_path / "without")
    assert fresh.load_report.fresh == ["ctc_head.weight", "ctc_head.bias"]
    assert fresh.ctc_head.weight.abs().max() > 0
    encoder = Recogniser(model.config.encoder)
    encoder.save_pretrained(tmp_path / "encoder")
    assert torch.equal(Recogniser.from_pretrained(tmp_path / "encoder").lm_head.weight, encoder.lm_head.weight)


def test_a_decoder_alone_generates_through_a_subclass_and_with_default_lengths(build: Build) -> None:
    model = build("wav2vec2", "bert")
    mine = Shifted(model.config.decoder).eval()
    assert mine.generate(torch.tensor([[3, 4]]), max_new_tokens=3, num_beams=2)[0, 2:].tolist() == [7, 7, 7]
    tokens = model.decoder.generate(torch.tensor([[3, 4]]), eos_token_id=None)
    assert tokens.shape == (1, 22)
    output = model.decoder.generate(torch.tensor([[3, 4]]), max_length=5, return_dict_in_generate=True, seed=1)
    assert output.sequences.shape[1] <= 5
    states = torch.randn(2, 4, 24)
    assert model.decoder.generate(encoder_hidden_states=states, bos_token_id=3, max_new_tokens=2).shape == (2, 3)
    with pytest.raises(GenerationError, match="Pass `input_ids`"):
        model.decoder.generate(bos_token_id=None)


def test_a_model_with_a_hook_reads_speech_as_a_prefix(speech: Any) -> None:
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2"),
        decoder=tiny_config("opt"),
        fusion="prefix",
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    model = SpeechEncoderDecoderModel(config=config).eval()
    prompts = torch.tensor([[0, 11, 12], [1, 0, 14]])
    given = {**speech, "decoder_input_ids": prompts, "decoder_attention_mask": (prompts != 1).long()}
    expected = model.generate(**given, max_new_tokens=5, num_beams=2)
    handle = model.register_forward_hook(lambda *_: None)
    assert torch.equal(model.generate(**given, max_new_tokens=5, num_beams=2), expected)
    handle.remove()
    model.decoder.register_forward_hook(lambda *_: None)
    with pytest.raises(ConfigError, match="cannot read speech as a prefix"):
        model.generate(**given, max_new_tokens=5)
