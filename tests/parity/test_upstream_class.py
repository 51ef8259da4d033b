"""What `transformers` tests of its class, asked of both libraries: shapes, flags, saving, attention, generation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from transformers.models.speech_to_text.modeling_speech_to_text import Speech2TextEncoder

import dragoman
from dragoman.testing import tiny_config

ROWS, TOKENS = 3, 7


class Kit(NamedTuple):
    """One library: its module, and encoders by the type of model."""

    library: Any
    encoders: dict[str, Any]
    config: Callable[..., Any]


KITS = {
    "transformers": Kit(
        transformers,
        {"wav2vec2": transformers.Wav2Vec2Model, "speech_to_text": Speech2TextEncoder},
        lambda name, **fields: transformers.AutoConfig.for_model(**tiny_config(name, **fields).to_dict()),
    ),
    "dragoman": Kit(
        dragoman,
        {"wav2vec2": dragoman.Wav2Vec2Model, "speech_to_text": dragoman.SpeechEncoder},
        lambda name, **fields: tiny_config(name, **fields),
    ),
}


class Case(NamedTuple):
    """A pair of configurations, the classes of the parts and a batch."""

    kit: Kit
    encoder: Any
    decoder: Any
    batch: dict[str, torch.Tensor]

    @property
    def parts(self) -> dict[str, Any]:
        """New parts, in evaluation mode."""
        encoder = self.kit.encoders[self.encoder.model_type](self.encoder).eval()
        return {"encoder": encoder, "decoder": self.kit.library.BertLMHeadModel(self.decoder).eval()}

    @property
    def inputs(self) -> torch.Tensor:
        """The audio."""
        return next(tensor for name, tensor in self.batch.items() if name.startswith("input_"))


@pytest.fixture(params=["wav2vec2", "speech_to_text"])
def encoder_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KITS)
def case(request: pytest.FixtureRequest, encoder_type: str) -> Case:
    kit = KITS[request.param]
    generator = torch.Generator().manual_seed(0)
    encoder = kit.config(encoder_type)
    decoder = kit.config("bert", is_decoder=True, add_cross_attention=True)
    if encoder_type == "wav2vec2":
        audio = {"input_values": torch.randn(ROWS, 1024, generator=generator)}
    else:
        audio = {"input_features": torch.randn(ROWS, 48, encoder.input_feat_per_channel, generator=generator)}
    length = next(iter(audio.values())).shape[1]
    mask = torch.randint(0, 2, (ROWS, TOKENS), generator=generator)
    mask[:, 0] = 1
    lengths = torch.tensor([[length], [length], [length * 3 // 4]])
    batch = {
        **audio,
        "attention_mask": (torch.arange(length) < lengths).long(),
        "decoder_input_ids": torch.randint(0, decoder.vocab_size, (ROWS, TOKENS), generator=generator),
        "decoder_attention_mask": mask,
    }
    return Case(kit, encoder, decoder, batch)


@pytest.fixture
def model(case: Case) -> Any:
    return case.kit.library.SpeechEncoderDecoderModel(**case.parts).eval()


def test_flags_and_logits(case: Case, model: Any) -> None:
    shape = (ROWS, TOKENS, case.decoder.vocab_size)
    assert model.config.decoder.is_decoder
    assert model.config.decoder.add_cross_attention
    assert model.config.is_encoder_decoder
    first = model(**case.batch, output_hidden_states=True)
    assert first["logits"].shape == shape
    encoded = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=first.encoder_hidden_states[-1])
    rest = {name: tensor for name, tensor in case.batch.items() if not name.startswith("input_")}
    assert model(encoder_outputs=encoded, **rest)["logits"].shape == shape


def test_audio_by_position_or_name(case: Case, model: Any) -> None:
    rest = {name: tensor for name, tensor in case.batch.items() if not name.startswith("input_")}
    by_position = model(case.inputs, **rest).logits
    assert torch.equal(by_position, model(inputs=case.inputs, **rest).logits)
    assert torch.equal(by_position, model(**case.batch).logits)


def test_random_initialisation(case: Case) -> None:
    if case.encoder.model_type == "speech_to_text" and case.kit.library is transformers:
        pytest.skip("transformers builds the whole of Speech to Text as the encoder")
    library = case.kit.library
    config = library.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(case.encoder, case.decoder)
    assert config.decoder.is_decoder
    model = library.SpeechEncoderDecoderModel(config).eval()
    assert model.config.is_encoder_decoder
    assert not model.config.tie_word_embeddings
    assert model(**case.batch)["logits"].shape == (ROWS, TOKENS, case.decoder.vocab_size)


@pytest.mark.parametrize("return_dict", [False, True])
def test_ready_made_parts(case: Case, return_dict: bool) -> None:
    parts = {f"{role}_model": part for role, part in case.parts.items()}
    cls = case.kit.library.SpeechEncoderDecoderModel
    model = cls.from_encoder_decoder_pretrained(**parts, return_dict=return_dict)
    output = model(**case.batch, output_hidden_states=True, return_dict=True)
    assert output["logits"].shape == (ROWS, TOKENS, case.decoder.vocab_size)
    assert isinstance(model(**case.batch), tuple) is not return_dict


def test_saving_whole_and_in_parts(case: Case, model: Any, tmp_path: Path) -> None:
    if case.encoder.model_type == "speech_to_text" and case.kit.library is transformers:
        pytest.skip("transformers saves an encoder that its classes do not load")
    before = model(**case.batch).logits
    model.save_pretrained(tmp_path / "whole")
    cls = type(model)
    assert torch.allclose(cls.from_pretrained(tmp_path / "whole")(**case.batch).logits, before, atol=1e-5)
    model.encoder.save_pretrained(tmp_path / "encoder")
    model.decoder.save_pretrained(tmp_path / "decoder")
    joined = cls.from_encoder_decoder_pretrained(
        encoder_pretrained_model_name_or_path=tmp_path / "encoder",
        decoder_pretrained_model_name_or_path=tmp_path / "decoder",
    ).eval()
    if not hasattr(joined, "enc_to_dec_proj"):  # otherwise it is new
        assert torch.allclose(joined(**case.batch).logits, before, atol=1e-5)


def test_attention_weights(case: Case) -> None:
    case.encoder._attn_implementation = case.decoder._attn_implementation = "eager"  # `sdpa` of `transformers` has none
    model = case.kit.library.SpeechEncoderDecoderModel(**case.parts).eval()
    batch = {**case.batch, "decoder_input_ids": case.batch["decoder_input_ids"][:, :-1]}
    batch["decoder_attention_mask"] = batch["decoder_attention_mask"][:, :-1]
    output = model(**batch, output_attentions=True)
    frames = int(model.encoder._get_feat_extract_output_lengths(case.inputs.shape[1]))
    heads, layers = case.encoder.num_attention_heads, case.decoder.num_hidden_layers
    assert len(output["encoder_attentions"]) == case.encoder.num_hidden_layers
    assert output["encoder_attentions"][0].shape[-3:] == (heads, frames, frames)
    heads = case.decoder.num_attention_heads
    assert len(output["decoder_attentions"]) == len(output["cross_attentions"]) == layers
    assert output["decoder_attentions"][0].shape[-3:] == (heads, TOKENS - 1, TOKENS - 1)
    assert output["cross_attentions"][0].shape[-3:] == (heads, TOKENS - 1, frames)


def test_generation_without_an_end(case: Case, model: Any) -> None:
    if case.encoder.model_type == "speech_to_text" and case.kit.library is transformers:
        model.encoder.main_input_name = "input_features"
    model.config.eos_token_id = model.config.decoder.eos_token_id = model.generation_config.eos_token_id = None
    start = model.config.decoder.pad_token_id
    found = model.generate(case.inputs, decoder_start_token_id=start, max_length=9, do_sample=False)
    assert found.shape == (ROWS, 9)
    assert (found[:, 0] == start).all()


def test_training_with_gradient_checkpointing(case: Case, model: Any) -> None:
    """Every weight that is trained gets a gradient."""
    model.train()
    model.activation_checkpointing_enable()
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    with torch.enable_grad():
        model(inputs=case.inputs, labels=case.batch["decoder_input_ids"]).loss.backward()
    assert model.decoder.get_input_embeddings().weight.grad is not None
    assert any(parameter.grad is not None for parameter in model.encoder.parameters())


def test_choice_of_attention(case: Case, tmp_path: Path) -> None:
    """`sdpa` without a choice, the choice on the model and on both parts, and nothing of it in the folder."""
    if case.encoder.model_type == "speech_to_text" and case.kit.library is transformers:
        pytest.skip("transformers saves an encoder that its classes do not load")
    library = case.kit.library
    config = library.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(case.encoder, case.decoder)
    cls = library.SpeechEncoderDecoderModel
    model = cls(config=config)
    model.save_pretrained(tmp_path)
    assert model.encoder._supports_sdpa
    assert model.decoder._supports_sdpa
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()
    for wanted, expected in {
        None: ("sdpa", "sdpa", "sdpa"),
        "sdpa": ("sdpa", "sdpa", "sdpa"),
        "eager": ("eager", "eager", "eager"),
    }.items():
        loaded = cls.from_pretrained(tmp_path, attn_implementation=wanted)
        assert chosen(loaded) == expected
    assert chosen(cls.from_pretrained(tmp_path, attn_implementation={"encoder": "eager"})) == ("sdpa", "eager", "sdpa")
    own = library.AutoConfig.from_pretrained(tmp_path, attn_implementation="eager")
    assert own._attn_implementation == own.encoder._attn_implementation == "eager"
    assert chosen(cls.from_pretrained(tmp_path, config=own)) == ("eager", "eager", "eager")
    loaded.set_attn_implementation("sdpa")
    assert chosen(loaded) == ("sdpa", "sdpa", "sdpa")
    assert library.BertConfig()._attn_implementation is None
    assert library.BertConfig(attn_implementation="eager")._attn_implementation == "eager"
    with pytest.raises(ValueError, match="attn_implementation"):
        cls.from_pretrained(tmp_path, attn_implementation="fast")


def chosen(model: Any) -> tuple[Any, ...]:
    parts = model.config, model.encoder.config, model.decoder.config
    return tuple(config._attn_implementation for config in parts)
