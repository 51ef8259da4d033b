"""Attention masks of the audio: shapes, types, places of padding, and clips that are too short."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dragoman import AudioError

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def test_clip_shorter_than_a_frame_is_refused(build: Any, speech: Speech) -> None:
    """`transformers` gives such a row a mask of all ones, so it attends to padding only."""
    mask = torch.ones(2, 1600, dtype=torch.long)
    mask[1, 39:] = 0
    with pytest.raises(AudioError, match=r"at least 40 samples.*39"):
        build().generate(speech(2), attention_mask=mask)
    with pytest.raises(AudioError, match=r"at least 40 samples.*10"):
        build()(speech(1, 10), labels=LABELS[:1])


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_adapter_shortens_mask_and_memory_alike(build: Any, speech: Speech, kernel: int, stride: int) -> None:
    """The formula of `transformers` is right for a kernel of 3 only."""
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
def test_clip_too_short_for_the_adapter_is_refused(build: Any, speech: Speech, kernel: int) -> None:
    model = build(encoder_add_adapter=True, encoder_adapter_kernel_size=kernel, encoder_num_adapter_layers=3)
    shortest = model.encoder.spec.shortest_input
    assert model.encoder.spec.frame_lengths(shortest) == 1
    for samples in shortest - 1, 80:
        mask = (torch.arange(8000) < torch.tensor([[8000], [samples]])).long()
        with pytest.raises(AudioError, match=f"at least {shortest} samples.*{samples}"):
            model.generate(speech(2, 8000), attention_mask=mask, max_new_tokens=2)
    mask = (torch.arange(8000) < torch.tensor([[8000], [shortest]])).long()
    assert model(speech(2, 8000), mask, labels=LABELS).logits.isfinite().all()


@pytest.mark.parametrize("adapter", [False, True])
def test_clip_of_one_frame_in_a_batch(build: Any, speech: Speech, adapter: bool) -> None:
    model = build(encoder_add_adapter=adapter)
    shortest = model.encoder.spec.shortest_input
    long, short = speech(1, 4000), speech(1, shortest, seed=1)
    batch = torch.cat([long, torch.nn.functional.pad(short, (0, 4000 - shortest), value=7.0)])
    mask = (torch.arange(4000) < torch.tensor([[4000], [shortest]])).long()
    both = model(batch, mask, decoder_input_ids=LABELS.clamp(min=0)).logits
    alone = model(short, decoder_input_ids=LABELS[1:].clamp(min=0)).logits
    assert both.isfinite().all()
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=0)


def test_padding_on_the_left_and_in_between(build: Any, speech: Speech) -> None:
    """`transformers` counts the ones and takes the first frames, wherever the speech is."""
    model, wave = build(), speech(1, 1000)
    tokens = LABELS[:1]
    alone = model(wave, decoder_input_ids=tokens).logits
    silence = torch.full((1, 300), 9.0)  # loud padding, so that any effect of it would show
    gone = torch.zeros(1, 300, dtype=torch.long)
    there = torch.ones(1, 1000, dtype=torch.long)
    left = model(torch.cat([silence, wave], 1), torch.cat([gone, there], 1), decoder_input_ids=tokens).logits
    torch.testing.assert_close(left, alone, atol=1e-5, rtol=0)
    holes = torch.cat([wave[:, :400], silence, wave[:, 400:]], 1)
    mask = torch.cat([there[:, :400], gone, there[:, 400:]], 1)
    torch.testing.assert_close(model(holes, mask, decoder_input_ids=tokens).logits, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32])
def test_masks_of_any_dtype_are_equivalent(build: Any, speech: Speech, dtype: torch.dtype) -> None:
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
def test_mask_of_another_shape_is_refused(build: Any, speech: Speech, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"shape of the input, \[2, 1600\]"):
        build()(speech(2), torch.ones(shape), labels=LABELS)


def test_mask_of_another_length_than_encoder_outputs_is_refused(build: Any, speech: Speech) -> None:
    """A mask given with encoder outputs must be over samples or frames."""
    model = build()
    output = model.encoder(speech(2))
    frames = torch.ones(2, 40, dtype=torch.long)
    assert model(encoder_outputs=output, attention_mask=frames, labels=LABELS).logits.isfinite().all()
    for samples in 41, 800, 5000:
        with pytest.raises(AudioError, match=rf"{samples}"):
            model(encoder_outputs=output, attention_mask=torch.ones(2, samples), labels=LABELS)
