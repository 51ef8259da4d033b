"""Training: masking, layer dropout, freezing, loss options, gradient checkpointing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import dragoman
from dragoman import (
    SpeechEncoderDecoderModel,
)

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def losses(model: SpeechEncoderDecoderModel, waves: torch.Tensor, seed: int, steps: int = 3) -> list[float]:
    torch.manual_seed(seed)
    return [model(waves, labels=LABELS[: len(waves)]).loss.item() for _ in range(steps)]


@pytest.mark.parametrize("samples", [40, 80, 200, 439, 440])
def test_clips_shorter_than_a_mask_can_be_trained_on(build: Any, speech: Speech, samples: int) -> None:
    """`transformers` raises below ten frames, which is 0.21 seconds."""
    model = build(encoder_mask_time_prob=0.9, encoder_mask_feature_prob=0.9, encoder_mask_feature_length=64).train()
    loss = model(speech(2, samples), labels=LABELS).loss
    loss.backward()
    assert loss.isfinite()


def test_masks_follow_the_seed_of_pytorch_only(build: Any, speech: Speech) -> None:
    """`transformers` draws them from NumPy's global state."""
    model = build(
        encoder_mask_time_prob=0.5, encoder_mask_feature_prob=0.5, encoder_mask_feature_length=2, encoder_layerdrop=0.0
    ).train()
    np.random.seed(0)
    before = losses(model, speech(2), seed=0)
    assert losses(model, speech(2), seed=0) == before
    assert losses(model, speech(2), seed=1) != before
    assert np.random.random() == np.random.RandomState(0).random()


def test_masks_apply_to_the_frames_of_the_clip(build: Any, speech: Speech) -> None:
    model = build(encoder_mask_time_prob=1.0, encoder_mask_time_length=5, encoder_mask_time_min_masks=2)
    wave = speech(2)
    mask = (torch.arange(1600) < torch.tensor([[1600], [600]])).long()
    hidden = torch.zeros(2, 40, dtype=torch.bool)
    hidden[0, 3:8] = True
    plain, masked = model.encoder(wave, mask), model.encoder(wave, mask, mask_time_indices=hidden)
    assert not torch.allclose(plain.last_hidden_state[0], masked.last_hidden_state[0])
    torch.testing.assert_close(plain.last_hidden_state[1], masked.last_hidden_state[1])


def test_evaluation_masks_nothing(build: Any, speech: Speech) -> None:
    model = build(encoder_mask_time_prob=1.0, encoder_layerdrop=1.0)
    assert len(set(losses(model, speech(2), seed=0))) == 1


def test_explicit_masks_apply_in_evaluation_too(build: Any, speech: Speech) -> None:
    """Pre-training scripts pass them; masked frames become the learned vector."""
    model = build(encoder_mask_time_prob=0.1)
    everything = torch.ones(1, 40, dtype=torch.bool)
    one = model.encoder(speech(1), mask_time_indices=everything).last_hidden_state
    other = model.encoder(speech(1, seed=1), mask_time_indices=everything).last_hidden_state
    assert one.equal(other)


def test_layerdrop_follows_the_seed_and_keeps_the_order_of_states(build: Any, speech: Speech) -> None:
    fields = dict.fromkeys(("encoder_hidden_dropout", "encoder_attention_dropout", "encoder_activation_dropout"), 0.0)
    fields |= {f"decoder_{name}": 0.0 for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    model = build(
        **fields, encoder_layerdrop=0.5, encoder_apply_spec_augment=False, encoder_num_hidden_layers=4
    ).train()
    assert losses(model, speech(2), 0) == losses(model, speech(2), 0)
    assert len(set(losses(model, speech(2), 0, steps=12))) > 2
    torch.manual_seed(1)
    output = model(speech(2), labels=LABELS, output_hidden_states=True, output_attentions=True)
    assert len(output.encoder_hidden_states) == 5
    assert len(output.encoder_attentions) == 4
    skipped = [i for i, weights in enumerate(output.encoder_attentions) if weights is None]
    assert skipped
    for i in skipped:
        assert output.encoder_hidden_states[i].equal(output.encoder_hidden_states[i + 1])


def test_layerdrop_draws_no_random_numbers_in_evaluation(build: Any, speech: Speech) -> None:
    """`transformers` draws for every layer even then, so sampling depends on the encoder's depth."""
    model = build(encoder_layerdrop=0.5)
    before = torch.get_rng_state()
    model(speech(2), labels=LABELS)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("encoder", ["wav2vec2", "hubert", "whisper"])
def test_every_encoder_can_freeze_its_front_end(build: Any, speech: Speech, encoder: str) -> None:
    """`transformers` has the method on some encoders only, and not on HuBERT, the example of its page."""
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


def test_freezing_the_encoder_or_its_front_end(build: Any, speech: Speech) -> None:
    model = build(encoder_add_adapter=True).train()
    model.freeze_encoder()
    model(speech(2), labels=LABELS).loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert model.bridge.proj.weight.grad.abs().sum() > 0
    alone = build("hubert").encoder.train()
    alone.freeze_feature_encoder()
    alone(speech(2)).last_hidden_state.sum().backward()
    assert all(p.grad is None for p in alone.frontend.convs.parameters())


def test_accumulated_gradients_equal_one_batch(build: Any, speech: Speech) -> None:
    """The gradients of two batches, divided by the number of tokens of both, equal those of one batch."""
    waves = speech(2)

    def gradients(*batches: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        model = build()
        for audio, labels in batches:
            model(audio, labels=labels, num_items_in_batch=7).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole = gradients((waves, LABELS))
    parts = gradients((waves[:1], LABELS[:1]), (waves[1:], LABELS[1:]))
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_label_smoothing_follows_its_definition(build: Any, speech: Speech) -> None:
    model = build()
    output = model(speech(2), labels=LABELS, smoothing=0.1)
    log_probs = output.logits.log_softmax(-1)[LABELS != -100]
    target = LABELS[LABELS != -100]
    wanted = 0.9 * -log_probs.gather(1, target[:, None]).mean() + 0.1 * -log_probs.mean()
    torch.testing.assert_close(output.loss, wanted)


@pytest.mark.parametrize("decoder", ["bert", "gpt2", "bart"])
def test_gradient_checkpointing_keeps_the_gradients(build: Any, speech: Speech, decoder: str) -> None:
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


def test_checkpointing_every_nth_layer_and_the_newer_method_name(build: Any, speech: Speech) -> None:
    """The trainers of `transformers` call the newer name; both do the same and keep the gradients."""
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


def test_checkpointing_with_a_frozen_front_end_has_gradients(build: Any, speech: Speech) -> None:
    """The reentrant checkpointing of `transformers` loses gradients if the input requires none."""
    model = build().train()
    model.freeze_feature_encoder()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model(speech(2), labels=LABELS).loss.backward()
    assert model.encoder.stack.layers[0].ffn.in_proj.weight.grad is not None
