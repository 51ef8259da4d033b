"""Traps of the model itself (upstream's behaviour, sections 2.1 to 2.4 and 2.7 to 2.9): what happens here instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import dragoman
from dragoman import AudioError, ConfigError, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def test_trap_2_1_an_adapter_may_have_any_width(build: Any, speech: Speech) -> None:
    """Upstream sizes the projection by the stack's width, and the first batch fails."""
    model = build(encoder_add_adapter=True, encoder_output_hidden_size=16)
    assert model.bridge.proj.weight.shape == (24, 16)
    assert model(speech(2), labels=LABELS).loss.isfinite()


def test_trap_2_1_an_output_width_without_an_adapter_changes_nothing(build: Any, speech: Speech) -> None:
    """Upstream believes the field, makes no projection, and the first batch fails."""
    model = build(encoder_add_adapter=False, encoder_output_hidden_size=24)
    assert model.bridge.proj.weight.shape == (24, 32)
    assert model(speech(2), labels=LABELS).loss.isfinite()


def test_trap_2_1_cross_attention_width_does_not_suppress_the_projection(build: Any, speech: Speech) -> None:
    """No decoder but TrOCR's uses the field; upstream leaves out the projection all the same."""
    model = build(decoder_cross_attention_hidden_size=32)
    assert model(speech(2), labels=LABELS).loss.isfinite()
    with pytest.raises(ConfigError, match=r"`cross_attention_hidden_size` is 31.*32"):
        build(decoder_cross_attention_hidden_size=31)


def test_trap_2_1_neither_configuration_nor_parts(build: Any) -> None:
    with pytest.raises(ConfigError, match="Either a configuration or an encoder and a decoder has to be provided"):
        SpeechEncoderDecoderModel(encoder=build().encoder)
    with pytest.raises(ConfigError, match="has to be of type"):
        SpeechEncoderDecoderModel(config=tiny_config("bert"))


def test_trap_2_1_a_decoder_that_cannot_listen_is_refused_at_once() -> None:
    """Upstream trains a language model that ignores the audio."""
    encoder = dragoman.SpeechEncoder(tiny_config("wav2vec2"))
    for fields in {"is_decoder": True}, {"add_cross_attention": True}, {}:
        with pytest.raises(ConfigError, match="cannot attend to speech"):
            SpeechEncoderDecoderModel(encoder=encoder, decoder=dragoman.TextDecoder(tiny_config("bert", **fields)))


def test_trap_2_2_contradicting_inputs_are_refused(build: Any, speech: Speech) -> None:
    """Upstream lets the positional one win in silence."""
    model = build()
    with pytest.raises(ConfigError, match="cannot specify both"):
        model(speech(2), input_values=speech(2), labels=LABELS)
    with pytest.raises(ConfigError, match="have to specify either input_values or input_features"):
        model(labels=LABELS)
    with pytest.raises(ConfigError, match="either `labels`, `decoder_input_ids`"):
        model(speech(2))


def test_trap_2_2_unknown_keywords_are_not_swallowed(build: Any, speech: Speech) -> None:
    with pytest.raises(TypeError, match="decoder_inputs_ids"):
        build()(speech(2), decoder_inputs_ids=LABELS)


def test_trap_2_2_encoder_outputs_in_every_shape(build: Any, speech: Speech) -> None:
    """Upstream fails on a list at the very end; what the caller gave stays as it was."""
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


def test_trap_2_2_the_memory_is_reported_as_the_decoder_sees_it(build: Any, speech: Speech) -> None:
    output = build()(speech(2), labels=LABELS)
    assert output.encoder_last_hidden_state.shape == (2, 40, 24)


def test_trap_2_2_a_batch_with_nothing_to_learn_gives_zero(build: Any, speech: Speech) -> None:
    """Upstream's loss is NaN, and so are all weights after the next step."""
    model = build()
    loss = model(speech(2), labels=torch.full((2, 3), -100)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("wrong", [99, 10_000, -1, -99])
def test_trap_2_2_a_label_beyond_the_vocabulary_is_named(build: Any, speech: Speech, wrong: int) -> None:
    """Upstream: an IndexError in an embedding, or a CUDA assertion that kills the process."""
    labels = LABELS.clone()
    labels[1, 1] = wrong
    with pytest.raises(ConfigError, match=rf"from 0 to 98.*{wrong}"):
        build()(speech(2), labels=labels)


def test_trap_2_2_num_items_in_batch_is_honoured(build: Any, speech: Speech) -> None:
    """Upstream ignores it, so that accumulating four batches makes gradients four times too large."""
    model, waves = build(), speech(2)
    whole = model(waves, labels=LABELS).loss
    rows = [model(waves[i : i + 1], labels=LABELS[i : i + 1], num_items_in_batch=7).loss for i in range(2)]
    torch.testing.assert_close(sum(rows), whole)
    torch.testing.assert_close(model(waves, labels=LABELS, num_items_in_batch=torch.tensor(14)).loss, whole / 2)


def test_trap_2_2_tuples_have_one_order_whatever_the_encoder(build: Any, speech: Speech) -> None:
    """Upstream's tuple has the front end's features in the midst of it for wav2vec2, and not for HuBERT."""
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


def test_trap_2_2_start_and_padding_ids_are_asked_for_by_name(build: Any, speech: Speech) -> None:
    """Upstream 5 raises an AttributeError about a missing attribute of the configuration."""
    model = build(decoder_start_token_id=None, pad_token_id=None, eos_token_id=None, decoder_pad_token_id=None)
    with pytest.raises(ConfigError, match="decoder_start_token_id attribute of the model's configuration"):
        model(speech(2), labels=LABELS)
    model.config.decoder_start_token_id = 3
    with pytest.raises(ConfigError, match="pad_token_id attribute of the model's configuration"):
        model(speech(2), labels=LABELS)


def test_trap_2_3_a_clip_too_short_for_a_frame_is_an_error_not_a_wrapped_mask(build: Any, speech: Speech) -> None:
    """Upstream gives such a row a mask of all ones: it attends to nothing but padding."""
    mask = torch.ones(2, 1600, dtype=torch.long)
    mask[1, 39:] = 0
    with pytest.raises(AudioError, match=r"at least 40 samples.*39"):
        build().generate(speech(2), attention_mask=mask)
    with pytest.raises(AudioError, match=r"at least 40 samples.*10"):
        build()(speech(1, 10), labels=LABELS[:1])


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_trap_2_3_adapters_of_any_kernel_shorten_the_mask_as_the_memory(
    build: Any, speech: Speech, kernel: int, stride: int
) -> None:
    """Upstream's formula is right for a kernel of 3 alone."""
    model = build(encoder_add_adapter=True, encoder_adapter_kernel_size=kernel, encoder_adapter_stride=stride)
    for samples in 1080, 1333, 1600:
        with torch.no_grad():
            alone = model.encoder(speech(1, samples)).last_hidden_state
        waves = torch.cat([speech(1, samples), torch.zeros(1, 1700 - samples)], dim=1)
        mask = (torch.arange(1700) < samples).long()[None]
        with torch.no_grad():
            padded = model.encoder(waves, mask)
        assert padded.lengths.tolist() == [alone.shape[1]]
        torch.testing.assert_close(padded.last_hidden_state[:, : alone.shape[1]], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [6, 9])
def test_trap_2_3_a_clip_too_short_for_the_adapter_is_an_error(build: Any, speech: Speech, kernel: int) -> None:
    model = build(encoder_add_adapter=True, encoder_adapter_kernel_size=kernel, encoder_num_adapter_layers=3)
    shortest = model.encoder.spec.shortest_input
    assert model.encoder.spec.frame_lengths(shortest) == 1
    for samples in shortest - 1, 80:
        mask = (torch.arange(8000) < torch.tensor([[8000], [samples]])).long()
        with pytest.raises(AudioError, match=f"at least {shortest} samples.*{samples}"):
            model.generate(speech(2, 8000), attention_mask=mask, max_new_tokens=2)
    mask = (torch.arange(8000) < torch.tensor([[8000], [shortest]])).long()
    assert model(speech(2, 8000), mask, labels=LABELS).logits.isfinite().all()


def test_trap_2_3_padding_on_the_left_and_holes_are_where_the_mask_says(build: Any, speech: Speech) -> None:
    """Upstream counts the ones and takes the first frames, wherever the sound is."""
    model, wave = build(), speech(1, 1000)
    tokens = LABELS[:1]
    alone = model(wave, decoder_input_ids=tokens).logits
    silence = torch.full((1, 300), 9.0)  # loud padding, so that hearing it would show
    gone = torch.zeros(1, 300, dtype=torch.long)
    there = torch.ones(1, 1000, dtype=torch.long)
    left = model(torch.cat([silence, wave], 1), torch.cat([gone, there], 1), decoder_input_ids=tokens).logits
    torch.testing.assert_close(left, alone, atol=1e-5, rtol=0)
    holes = torch.cat([wave[:, :400], silence, wave[:, 400:]], 1)
    mask = torch.cat([there[:, :400], gone, there[:, 400:]], 1)
    torch.testing.assert_close(model(holes, mask, decoder_input_ids=tokens).logits, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("encoder", ["wav2vec2", "hubert", "whisper"])
def test_trap_2_4_every_encoder_freezes_its_front_end(build: Any, speech: Speech, encoder: str) -> None:
    """Upstream has the method on some encoders only, and not on HuBERT, its own page's example."""
    model = build(encoder).train()
    model.freeze_feature_encoder()
    inputs = torch.randn(2, 8, 60) if encoder == "whisper" else speech(2)
    model(inputs, labels=LABELS).loss.backward()
    front = model.encoder.frontend
    frozen = list(getattr(front, "convs", front).parameters())
    assert frozen
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    learning = [p for p in model.encoder.parameters() if p.requires_grad]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learning)
    if encoder != "whisper":
        assert front.proj.weight.grad.abs().sum() > 0


def test_trap_2_7_the_decoders_own_flag_ties_its_head(build: Any, tmp_path: Path) -> None:
    """Tied or not, the head survives saving, and a head that was trained apart is not overwritten."""
    for tied in True, False:
        model = build(decoder="bart", decoder_tie_word_embeddings=tied)
        model.save_pretrained(tmp_path / str(tied))
        again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / str(tied))
        assert (again.decoder.head.weight is None) is tied
        assert again.config.tie_word_embeddings is False
        if not tied:
            assert again.decoder.head.weight.equal(model.decoder.head.weight)
            assert not again.decoder.head.weight.equal(again.decoder.embed.tokens.weight)
        with torch.no_grad():  # a tied head follows its embedding, also after loading
            again.decoder.get_input_embeddings().weight.zero_()
        logits = again.decoder(torch.tensor([[4]])).logits
        assert (logits == 0).all().item() is tied


def test_trap_2_8_the_composite_resizes_its_vocabulary(build: Any, speech: Speech, tmp_path: Path) -> None:
    """Upstream raises NotImplementedError."""
    model = build()
    before = model(speech(2), labels=LABELS).logits
    assert model.resize_token_embeddings(103).weight.shape == (103, 24)
    after = model(speech(2), labels=LABELS).logits
    assert after.shape[-1] == 103
    torch.testing.assert_close(after[..., :99], before)
    assert model.config.decoder.vocab_size == 103
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again(speech(2), labels=LABELS).logits.equal(after)
    assert again.get_input_embeddings().weight.shape == (103, 24)


@pytest.mark.parametrize("decoder", ["bert", "gpt2", "bart"])
def test_trap_2_9_gradient_checkpointing_changes_no_gradient(build: Any, speech: Speech, decoder: str) -> None:
    def gradients(model: SpeechEncoderDecoderModel, on: bool) -> dict[str, torch.Tensor]:
        (model.gradient_checkpointing_enable if on else model.gradient_checkpointing_disable)()
        assert model.is_gradient_checkpointing is on
        model.zero_grad()
        torch.manual_seed(0)
        model(speech(2), labels=LABELS).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model = build(decoder=decoder, encoder_layerdrop=0.0).train()
    plain, checkpointed = gradients(model, False), gradients(model, True)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
    assert gradients(model, False).keys() == plain.keys()


def test_trap_2_9_some_layers_only_and_upstreams_newer_name(build: Any, speech: Speech) -> None:
    """Upstream's trainers call the newer name; both do the same, and the gradients stay."""
    wanted = build().train()
    torch.manual_seed(0)
    wanted(speech(2), labels=LABELS).loss.backward()
    for enable in "gradient_checkpointing_enable", "activation_checkpointing_enable":
        model = build().train()
        getattr(model, enable)(None, every_n_layers=2)
        assert model.is_gradient_checkpointing
        torch.manual_seed(0)
        model(speech(2), labels=LABELS).loss.backward()
        for ours, theirs in zip(model.parameters(), wanted.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
        model.activation_checkpointing_disable()
        assert not model.is_gradient_checkpointing
        for wrong in {"every_n_layers": 0}, {"offload": True}:
            with pytest.raises(dragoman.ConfigError):
                getattr(model, enable)(**wrong)


def test_trap_2_9_checkpointing_with_a_frozen_front_end_still_learns(build: Any, speech: Speech) -> None:
    """Upstream's reentrant kind needs the waveform to ask for gradients, and loses them when it does not."""
    model = build().train()
    model.freeze_feature_encoder()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model(speech(2), labels=LABELS).loss.backward()
    assert model.encoder.stack.layers[0].ffn.in_proj.weight.grad is not None


def test_trap_1_3_attentions_are_given_whenever_they_are_asked_for(build: Any, speech: Speech) -> None:
    """Upstream 5 gives a tuple of `None` unless the model was loaded with its slowest attention."""
    output = build(encoder_add_adapter=True)(speech(2), labels=LABELS, output_attentions=True)
    frames = 40
    memory = output.encoder_last_hidden_state.shape[1]
    assert memory < frames
    assert [w.shape for w in output.encoder_attentions] == [(2, 4, frames, frames)] * 2
    assert [w.shape for w in output.decoder_attentions] == [(2, 4, 4, 4)] * 2
    assert [w.shape for w in output.cross_attentions] == [(2, 4, 4, memory)] * 2
    for weights in (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_trap_2_2_encoder_outputs_of_transformers_are_read(build: Any, speech: Speech) -> None:
    model, tokens = build(), LABELS.clamp(min=0)
    wanted = model(speech(2), decoder_input_ids=tokens).logits
    states = model.encoder(speech(2)).last_hidden_state
    for cls in transformers.modeling_outputs.BaseModelOutput, transformers.modeling_outputs.Wav2Vec2BaseModelOutput:
        given = cls(last_hidden_state=states)
        assert model(encoder_outputs=given, decoder_input_ids=tokens).logits.equal(wanted)
        assert list(given) == ["last_hidden_state"]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32])
def test_trap_2_3_masks_of_any_type_mean_the_same(build: Any, speech: Speech, dtype: torch.dtype) -> None:
    mask = torch.arange(1600) < torch.tensor([[1600], [900]])
    for padding in "exact", "reference":
        model = build()
        model.set_padding(padding)
        wanted = model(speech(2), mask.long(), labels=LABELS).logits
        assert model(speech(2), mask.to(dtype), labels=LABELS).logits.equal(wanted)
        output = model.encoder(speech(2))
        wanted = model(encoder_outputs=output, attention_mask=mask.long(), labels=LABELS).logits
        assert model(encoder_outputs=output, attention_mask=mask.to(dtype), labels=LABELS).logits.equal(wanted)


@pytest.mark.parametrize("shape", [(2, 1599), (1, 1600), (2, 1600, 1), (1600,)])
def test_trap_2_3_a_mask_of_another_shape_is_an_error(build: Any, speech: Speech, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"shape of the input, \[2, 1600\]"):
        build()(speech(2), torch.ones(shape), labels=LABELS)


def test_trap_2_3_a_mask_of_another_length_than_the_outputs_is_an_error(build: Any, speech: Speech) -> None:
    """Given with earlier outputs, a mask is of samples, or of frames; of anything else it would mean nothing."""
    model = build()
    output = model.encoder(speech(2))
    frames = torch.ones(2, 40, dtype=torch.long)
    assert model(encoder_outputs=output, attention_mask=frames, labels=LABELS).logits.isfinite().all()
    for samples in 41, 800, 5000:
        with pytest.raises(AudioError, match=rf"{samples}"):
            model(encoder_outputs=output, attention_mask=torch.ones(2, samples), labels=LABELS)
