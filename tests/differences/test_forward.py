"""Building the model and its forward pass: projection, inputs, outputs, loss."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import dragoman
from dragoman import (
    ConfigError,
    SpeechEncoderDecoderModel,
)
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def test_adapter_may_have_any_width(build: Any, speech: Speech) -> None:
    """`transformers` sizes the projection by the width of the stack, and the first batch fails."""
    model = build(encoder_add_adapter=True, encoder_output_hidden_size=16)
    assert model.bridge.proj.weight.shape == (24, 16)
    assert model(speech(2), labels=LABELS).loss.isfinite()


def test_output_width_without_an_adapter_is_ignored(build: Any, speech: Speech) -> None:
    """`transformers` uses the field, creates no projection, and the first batch fails."""
    model = build(encoder_add_adapter=False, encoder_output_hidden_size=24)
    assert model.bridge.proj.weight.shape == (24, 32)
    assert model(speech(2), labels=LABELS).loss.isfinite()


def test_cross_attention_width_does_not_remove_the_projection(build: Any, speech: Speech) -> None:
    """Only TrOCR's decoder uses the field, but `transformers` omits the projection for every decoder."""
    model = build(decoder_cross_attention_hidden_size=32)
    assert model(speech(2), labels=LABELS).loss.isfinite()
    with pytest.raises(ConfigError, match=r"`cross_attention_hidden_size` is 31.*32"):
        build(decoder_cross_attention_hidden_size=31)


@pytest.mark.parametrize(
    "fields", [{"encoder_hidden_size": 24}, {"encoder_add_adapter": True, "encoder_output_hidden_size": 24}]
)
def test_no_projection_between_equal_widths(build: Any, speech: Speech, tmp_path: Path, fields: dict[str, Any]) -> None:
    model = build(**fields)
    assert list(model.bridge.parameters()) == []
    model.save_pretrained(tmp_path)
    assert not any("enc_to_dec" in name for name in load_file(tmp_path / "model.safetensors"))
    assert model(speech(2), labels=LABELS).loss.isfinite()


def test_model_needs_a_configuration_or_both_parts(build: Any) -> None:
    with pytest.raises(ConfigError, match="Either a configuration or an encoder and a decoder has to be provided"):
        SpeechEncoderDecoderModel(encoder=build().encoder)
    with pytest.raises(ConfigError, match="has to be of type"):
        SpeechEncoderDecoderModel(config=tiny_config("bert"))


def test_text_decoder_as_the_encoder_is_refused(build: Any) -> None:
    half = build()
    with pytest.raises(ConfigError, match="encoder must be a speech encoder"):
        SpeechEncoderDecoderModel(encoder=half.decoder, decoder=half.decoder)


def test_other_module_as_the_decoder_is_refused(build: Any) -> None:
    half = build()
    with pytest.raises(ConfigError, match="decoder must be a text decoder"):
        SpeechEncoderDecoderModel(encoder=half.encoder, decoder=torch.nn.Linear(1, 1))


def test_decoder_without_cross_attention_is_refused() -> None:
    """`transformers` trains a language model that ignores the audio."""
    encoder = dragoman.SpeechEncoder(tiny_config("wav2vec2"))
    for fields in {"is_decoder": True}, {"add_cross_attention": True}, {}:
        with pytest.raises(ConfigError, match="cannot attend to speech"):
            SpeechEncoderDecoderModel(encoder=encoder, decoder=dragoman.TextDecoder(tiny_config("bert", **fields)))


def test_contradictory_inputs_are_refused(build: Any, speech: Speech) -> None:
    """`transformers` silently prefers the positional one."""
    model = build()
    with pytest.raises(ConfigError, match="cannot specify both"):
        model(speech(2), input_values=speech(2), labels=LABELS)
    with pytest.raises(ConfigError, match="have to specify either input_values or input_features"):
        model(labels=LABELS)
    with pytest.raises(ConfigError, match="either `labels`, `decoder_input_ids`"):
        model(speech(2))


def test_unknown_keyword_is_refused(build: Any, speech: Speech) -> None:
    with pytest.raises(TypeError, match="decoder_inputs_ids"):
        build()(speech(2), decoder_inputs_ids=LABELS)


def test_encoder_outputs_as_object_tuple_list_or_dictionary(build: Any, speech: Speech) -> None:
    """`transformers` fails on a list at the end of the call. The caller's object is not changed."""
    model = build()
    waves, tokens = speech(2), LABELS.clamp(min=0)
    mask = torch.ones(2, 1600, dtype=torch.long)
    mask[1, 900:] = 0
    wanted = model(waves, mask, decoder_input_ids=tokens).logits
    with torch.no_grad():
        output = model.encoder(waves, mask)
    states = output.last_hidden_state
    kept = states.clone()
    shapes: list[Any] = [output, (states,), [states], {"last_hidden_state": states}, dict(output)]
    for given in shapes:
        before = list(given)
        found = model(encoder_outputs=given, attention_mask=mask, decoder_input_ids=tokens).logits
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
        assert (
            list(given) == before
            if not isinstance(given, tuple | list)
            else all(a is b for a, b in zip(given, before, strict=True))
        )
    assert states.equal(kept)


def test_encoder_outputs_of_transformers(build: Any, speech: Speech) -> None:
    model, tokens = build(), LABELS.clamp(min=0)
    wanted = model(speech(2), decoder_input_ids=tokens).logits
    states = model.encoder(speech(2)).last_hidden_state
    for cls in transformers.modeling_outputs.BaseModelOutput, transformers.modeling_outputs.Wav2Vec2BaseModelOutput:
        given = cls(last_hidden_state=states)
        assert model(encoder_outputs=given, decoder_input_ids=tokens).logits.equal(wanted)
        assert list(given) == ["last_hidden_state"]


def test_reported_memory_is_that_of_the_decoder(build: Any, speech: Speech) -> None:
    output = build()(speech(2), labels=LABELS)
    assert output.encoder_last_hidden_state.shape == (2, 40, 24)


def test_loss_without_labels_is_zero(build: Any, speech: Speech) -> None:
    """The loss of `transformers` is NaN, and so are all weights after the next step."""
    model = build()
    loss = model(speech(2), labels=torch.full((2, 3), -100)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("wrong", [99, 10_000, -1, -99])
def test_label_outside_the_vocabulary_is_refused(build: Any, speech: Speech, wrong: int) -> None:
    """`transformers` raises an IndexError in an embedding, or a CUDA assertion that ends the process."""
    labels = LABELS.clone()
    labels[1, 1] = wrong
    with pytest.raises(ConfigError, match=rf"from 0 to 98.*{wrong}"):
        build()(speech(2), labels=labels)


def test_num_items_in_batch_scales_the_loss(build: Any, speech: Speech) -> None:
    """`transformers` ignores it, so accumulating four batches makes gradients four times too large."""
    model, waves = build(), speech(2)
    whole = model(waves, labels=LABELS).loss
    rows = [model(waves[i : i + 1], labels=LABELS[i : i + 1], num_items_in_batch=7).loss for i in range(2)]
    torch.testing.assert_close(sum(rows), whole)
    torch.testing.assert_close(model(waves, labels=LABELS, num_items_in_batch=torch.tensor(14)).loss, whole / 2)


def test_output_tuple_has_the_same_order_for_every_encoder(build: Any, speech: Speech) -> None:
    """The tuple of `transformers` contains the front end's features for wav2vec2, but not for HuBERT."""
    flags = {"output_hidden_states": True, "output_attentions": True, "use_cache": True}
    for encoder in "wav2vec2", "hubert":
        model = build(encoder)
        output = model(speech(2), labels=LABELS, **flags)
        values = model(speech(2), labels=LABELS, return_dict=False, **flags)
        assert isinstance(values, tuple)
        assert len(values) == len(output) == 9
        for name, value in zip(output.keys(), values, strict=True):
            if isinstance(value, torch.Tensor):
                assert value.equal(output[name])
        assert output[0] is output.loss is output["loss"]
        assert output[:2] == (output.loss, output.logits)
        with pytest.raises(KeyError, match='Did you mean "logits"'):
            output["logit"]


def test_attentions_are_returned_when_requested(build: Any, speech: Speech) -> None:
    """`transformers` 5 returns a tuple of `None` unless the model was loaded with its slowest attention."""
    output = build(encoder_add_adapter=True)(speech(2), labels=LABELS, output_attentions=True)
    frames = 40
    memory = output.encoder_last_hidden_state.shape[1]
    assert memory < frames
    assert [w.shape for w in output.encoder_attentions] == [(2, 4, frames, frames)] * 2
    assert [w.shape for w in output.decoder_attentions] == [(2, 4, 4, 4)] * 2
    assert [w.shape for w in output.cross_attentions] == [(2, 4, 4, memory)] * 2
    for weights in (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
