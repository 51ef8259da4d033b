"""Inputs of a model: what is accepted, and errors for everything else instead of wrong numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import AudioError, ConfigError, SpeechEncoder, SpeechEncoderDecoderModel
from dragoman.errors import DragomanError
from dragoman.jax.parts import SpeechEncoder as JaxEncoder
from dragoman.testing import tiny_config

Build = Callable[..., SpeechEncoderDecoderModel]
AUDIO = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[5, 6, 2], [7, 2, -100]])


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_number_of_label_rows_must_match_the_clips(build: Build, rows: int) -> None:
    """Extra rows would silently be taken for beams of one clip."""
    model, labels = build(), LABELS[:1].repeat(rows, 1)
    with pytest.raises(ConfigError, match=f"as many token sequences as clips, but there are {rows} and 2"):
        model(AUDIO, labels=labels)
    with pytest.raises(ConfigError, match=f"there are {rows} and 2"):
        model(AUDIO, decoder_input_ids=labels.clamp(min=0))
    with pytest.raises(ConfigError, match=f"there are {rows} and 2"):
        model.decoder(labels.clamp(min=0), encoder_hidden_states=torch.zeros(2, 5, 24))


TOKENS = LABELS.clamp(min=0)
BEYOND = LABELS.masked_fill(LABELS == 7, 106)


def read(tokens: Any) -> dict[str, Any]:
    return {"labels": None, "decoder_input_ids": tokens}


MISTAKES: dict[str, tuple[dict[str, Any], type[DragomanError], str]] = {
    "an array": ({"inputs": AUDIO.numpy()}, AudioError, "must be a tensor, but is a ndarray"),
    "a list": ({"inputs": AUDIO.tolist()}, AudioError, 'return_tensors="pt"'),
    "no clips": ({"inputs": AUDIO[:0], "labels": LABELS[:0]}, AudioError, "holds no clip"),
    "no samples": ({"inputs": AUDIO[:, :0]}, AudioError, "a clip has 0"),
    "a short row": (
        {"attention_mask": torch.arange(400) < torch.tensor([[400], [12]])},
        AudioError,
        "first frame, but the clip in row 1 has 12",
    ),
    "one axis": ({"inputs": AUDIO[0]}, AudioError, r"\[batch, samples\], but has \[400\]"),
    "labels of no token": ({"labels": LABELS[:, :0]}, ConfigError, "at least one token per sequence"),
    "no number": ({"inputs": AUDIO * float("nan")}, AudioError, "NaN or infinite"),
    "labels of one axis": ({"labels": LABELS[0]}, ConfigError, r"the shape \[3\]"),
    "fractional labels": ({"labels": LABELS.float()}, ConfigError, "the type float32"),
    "labels in a list": ({"labels": LABELS.tolist()}, ConfigError, "must be a tensor, but is a list"),
    "labels in an array": ({"labels": np.zeros((2, 3), np.int64)}, ConfigError, "but is a ndarray"),
    "labels that are true or false": ({"labels": LABELS > 5}, ConfigError, "the type bool"),
    "a label beyond the vocabulary": ({"labels": BEYOND}, ConfigError, r"from 0 to 98, or -100 .*, but got 106"),
    "a label below it": ({"labels": LABELS - 7}, ConfigError, "but got -107"),
    "the same with tokens": (
        {"labels": BEYOND, "decoder_input_ids": TOKENS},
        ConfigError,
        "`labels` must be from 0 to 98",
    ),
    "fewer labels than tokens": (
        {"decoder_input_ids": TOKENS, "labels": LABELS[:, :2]},
        ConfigError,
        r"decoder's tokens, \[2, 3\], but have \[2, 2\]",
    ),
    "too much smoothing": ({"smoothing": 1.5}, ConfigError, "`smoothing` must be from 0 to 1, but is 1.5"),
    "a token beyond the vocabulary": (
        read(BEYOND.clamp(min=0)),
        ConfigError,
        r"`decoder_input_ids` .* to 98, but got 106",
    ),
    "a token below it": (read(TOKENS - 2), ConfigError, "but got -2"),
    "tokens of one axis": (read(TOKENS[0]), ConfigError, r"`decoder_input_ids` must be integers .* the shape \[3\]"),
    "tokens of three axes": (read(TOKENS[None]), ConfigError, r"the shape \[1, 2, 3\]"),
    "fractional tokens": (read(TOKENS.float()), ConfigError, "the type float32"),
    "tokens in a list": (read(TOKENS.tolist()), ConfigError, "`decoder_input_ids` must be a tensor, but is a list"),
    "tokens in an array": (read(TOKENS.numpy()), ConfigError, "but is a ndarray"),
    "tokens and embeddings": (
        {"labels": None, "decoder_input_ids": TOKENS, "decoder_inputs_embeds": torch.zeros(2, 3, 24)},
        ConfigError,
        "exactly one of `decoder_input_ids` and `decoder_inputs_embeds`",
    ),
    "embeddings of another width": (
        {"decoder_inputs_embeds": torch.zeros(2, 3, 5)},
        ConfigError,
        r"\[batch, tokens, 24\], but have the shape \[2, 3, 5\]",
    ),
    "embeddings of one text": ({"decoder_inputs_embeds": torch.zeros(3, 24)}, ConfigError, r"the shape \[3, 24\]"),
    "no cache": ({**read(TOKENS), "past_key_values": ((), ())}, ConfigError, "`past_key_values` .* but is a tuple"),
    "samples as a file has them": (
        {"inputs": (AUDIO * 99).short()},
        AudioError,
        "floating-point numbers, but are int16",
    ),
    "a mask in a list": ({"attention_mask": [[1] * 400] * 2}, ConfigError, "`attention_mask` must be a tensor"),
    "a decoder's mask in a list": (
        {"decoder_attention_mask": [[1] * 3] * 2},
        ConfigError,
        "`decoder_attention_mask` must be a tensor, but is a list",
    ),
    "mask of other texts": (
        {**read(TOKENS), "decoder_attention_mask": torch.ones(1, 3)},
        ConfigError,
        r"a row for each of the 2 sequences, but has the shape \[1, 3\]",
    ),
    "mask of other tokens": (
        {"labels": None, "decoder_input_ids": torch.ones(2, 3).long(), "decoder_attention_mask": torch.ones(2, 5)},
        ConfigError,
        r"each of the 3 tokens so far, but has the shape \[2, 5\]",
    ),
    "no states": ({"encoder_outputs": ()}, ConfigError, "must begin with the `last_hidden_state`"),
    "other states": ({"encoder_outputs": {"hidden": 1}}, ConfigError, "must begin with the `last_hidden_state`"),
    "states of nothing": ({"encoder_outputs": (None,)}, ConfigError, r"`encoder_outputs\[0\]` must be a tensor"),
    "states of another width": ({"encoder_outputs": (torch.zeros(2, 5, 7),)}, ConfigError, r"frames, 32\], but has"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_invalid_inputs_are_refused(build: Build, name: str) -> None:
    changes, error, words = MISTAKES[name]
    with pytest.raises(error, match=words) as caught:
        build()(**{"inputs": AUDIO, "labels": LABELS, **changes})
    assert "\n" not in str(caught.value)


ALONE: dict[str, tuple[dict[str, Any], str]] = {
    "beyond the vocabulary": ({"input_ids": BEYOND.clamp(min=0)}, "`input_ids` must be from 0 to 98, but got 106"),
    "one axis": ({"input_ids": TOKENS[0]}, r"`input_ids` must be .*the shape \[3\]"),
    "nothing": ({"input_ids": None}, "exactly one of `input_ids` and `inputs_embeds`"),
    "labels beyond": ({"labels": BEYOND.clamp(min=0)}, "`labels` must be from 0 to 98"),
    "other labels": ({"labels": TOKENS[:, :2]}, r"\[2, 3\], but have \[2, 2\]"),
    "a narrow memory": (
        {"encoder_hidden_states": torch.zeros(2, 5, 7)},
        r"\[batch, frames, 24\], but have \[2, 5, 7\]",
    ),
    "a flat memory": ({"encoder_hidden_states": torch.zeros(2, 24)}, r"but have \[2, 24\]"),
    "a mask of other frames": (
        {"encoder_hidden_states": torch.zeros(2, 5, 24), "encoder_attention_mask": torch.ones(2, 4)},
        r"the shape \[2, 5\], a number for each frame, but has \[2, 4\]",
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_invalid_inputs_of_a_decoder_are_refused(build: Build, name: str) -> None:
    changes, words = ALONE[name]
    with pytest.raises(ConfigError, match=words):
        build().decoder(**{"input_ids": TOKENS, **changes})


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_spec_augment_mask_of_another_shape_is_refused(build: Build, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"`mask_time_indices` must have the shape \[2, \d+\]"):
        build().encoder(AUDIO, mask_time_indices=torch.ones(shape, dtype=torch.bool))


def test_cache_of_another_batch_is_refused(build: Build) -> None:
    model = build()
    cache = model(AUDIO, decoder_input_ids=TOKENS, use_cache=True).past_key_values
    with pytest.raises(
        ConfigError, match="as many token sequences as rows of `past_key_values`, but there are 1 and 2"
    ):
        model(AUDIO[:1], decoder_input_ids=TOKENS[:1], past_key_values=cache)


@pytest.mark.parametrize("name", ["decoder_start_token_id", "pad_token_id"])
@pytest.mark.parametrize("value", [99, -1, [3, 4]])
def test_special_ids_outside_the_vocabulary_are_refused(build: Build, name: str, value: Any) -> None:
    """As after adding a padding token to the tokenizer, but not to the model."""
    model = build()
    setattr(model.config, name, value)
    with pytest.raises(ConfigError, match=f"`{name}`"):
        model(AUDIO, labels=LABELS)


def test_invalid_prompts_of_generate_are_refused(build: Build) -> None:
    model = build()
    for tokens, words in (
        (BEYOND.clamp(min=0), "to 98, but got 106"),
        (TOKENS[0], r"the shape \[3\]"),
        (TOKENS.float(), "the type float32"),
        (TOKENS[:1], "as many token sequences as clips, but there are 1 and 2"),
    ):
        with pytest.raises(ConfigError, match=words):
            model.generate(AUDIO, decoder_input_ids=tokens, max_new_tokens=3)
    with pytest.raises(ConfigError, match="`decoder_start_token_id` must be from 0 to 98, but got 99"):
        model.generate(AUDIO, decoder_start_token_id=99, max_new_tokens=3)


def test_loss_without_labels_is_zero(build: Build) -> None:
    model, nothing = build(), torch.full_like(LABELS, -100)
    for count in 0, torch.tensor(0):
        assert model(AUDIO, labels=nothing, num_items_in_batch=count).loss == 0


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_dtype(build: Build, kind: torch.dtype) -> None:
    model, labels = build(), LABELS.clamp(min=0)
    assert torch.equal(model(AUDIO, labels=labels.to(kind)).loss, model(AUDIO, labels=labels).loss)
    ours, wanted = (model(AUDIO, decoder_input_ids=tokens).logits for tokens in (TOKENS.to(kind), TOKENS))
    assert torch.equal(ours, wanted)


@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.float32])
def test_masks_of_any_dtype(build: Build, kind: torch.dtype) -> None:
    model, mask = build(), (torch.arange(400) < torch.tensor([[400], [200]]))
    expected = model(AUDIO, attention_mask=mask.long(), labels=LABELS).loss
    assert torch.equal(model(AUDIO, attention_mask=mask.to(kind), labels=LABELS).loss, expected)


@pytest.mark.parametrize(
    ("family", "shape", "words"),
    [
        ("wav2vec2-bert", (2, 40, 7), r"\[batch, frames, 8 features\], but has \[2, 40, 7\]"),
        ("speech_to_text", (2, 8, 40), r"\[batch, frames, 8 features\]"),
        ("whisper", (2, 40, 8), r"\[batch, 8 mels, frames\], but has \[2, 40, 8\]"),
        ("whisper", (2, 8), r"\[batch, 8 mels, frames\]"),
        ("wav2vec2-bert", (2, 0, 8), "at least 1 frames for its first frame, but a clip has 0"),
    ],
)
def test_spectrogram_of_another_shape_is_refused(family: str, shape: tuple[int, ...], words: str) -> None:
    features = np.zeros(shape, np.float32)
    with pytest.raises(AudioError, match=words):
        SpeechEncoder(tiny_config(family))(input_features=torch.from_numpy(features))
    with pytest.raises(AudioError, match=words):
        JaxEncoder(tiny_config(family))(input_features=features)


def test_convolutions_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"each of the 2 convolutions .* but has 3"):
        tiny_config("speech_to_text", conv_kernel_sizes=(5, 5, 5))
    with pytest.raises(ConfigError, match="odd"):
        tiny_config("speech_to_text", conv_kernel_sizes=(5, 4)).speech_spec()
    with pytest.raises(ConfigError, match="must be odd, but is 6"):
        tiny_config("wav2vec2-bert", conv_depthwise_kernel_size=6).speech_spec()
    with pytest.raises(ConfigError, match="position_embeddings_type"):
        tiny_config("wav2vec2-conformer", position_embeddings_type="relative_key").speech_spec()
