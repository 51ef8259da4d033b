"""Padding in decoder inputs: RoBERTa and fairseq's sinusoids count the tokens without padding, others all of them.

`transformers` counts within a call, after everything in its cache, padding included; so do both of our backends.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import (
    GenerationError,
    SpeechEncoder,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    TextDecoder,
)
from dragoman.checkpoint.options import LoadOptions
from dragoman.jax.backend import BACKEND
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.parts import TextDecoder as JaxTextDecoder
from dragoman.model.load import load_part
from dragoman.testing import TOLERANCES, tiny_config
from dragoman.testing.configs import DECODERS

from .conftest import EOS, PAD, START, VOCAB, assert_close, randomize, reference_config

APART = ("roberta", "xlm-roberta", "camembert", "trocr-sinusoids")
# On the left, in the middle, on the right, nowhere; the start token is 0.
TEXTS = torch.tensor([[1, 1, 1, 0, 5, 9, 4], [0, 5, 1, 1, 8, 1, 4], [0, 5, 9, 17, 1, 1, 1], [0, 8, 5, 9, 17, 4, 6]])


@pytest.mark.parametrize("decoder", [*APART, "bert", "xglm"])
def test_logits(pair_of: Callable[[str, str], Any], decoder: str) -> None:
    pair = pair_of("wav2vec2-layer", decoder)
    model, real = pair.load(), TEXTS != PAD
    batch = {**pair.audio(len(TEXTS), seed=3), "decoder_input_ids": TEXTS}
    for more in {}, {"decoder_attention_mask": real.long()}:
        difference = model(**batch, **more).logits - pair.reference(**batch, **more).logits
        assert difference[real].abs().max() <= TOLERANCES["logits"]
    memory = torch.randn(len(TEXTS), 5, model.decoder.spec.memory_width, generator=torch.Generator().manual_seed(0))
    twin = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder).decoder
    ours = twin(TEXTS.numpy(), encoder_hidden_states=memory.numpy(), attention_mask=real.numpy()).logits
    expected = model.decoder(TEXTS, encoder_hidden_states=memory, attention_mask=real).logits
    assert np.abs(np.asarray(ours) - expected.numpy())[real].max() <= TOLERANCES["logits"]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("decoder", APART)
def test_generate_after_padded_prompts(pair_of: Callable[[str, str], Any], decoder: str, num_beams: int) -> None:
    pair = pair_of("wav2vec2-layer", decoder)
    batch = {**pair.audio(len(TEXTS), seed=3), "decoder_input_ids": TEXTS[:, :5]}
    options = {"num_beams": num_beams, "max_new_tokens": 8}
    expected = pair.reference.generate(**batch, **options)
    assert torch.equal(pair.load().generate(**batch, **options), expected)


@pytest.mark.slow  # it compiles a search
@pytest.mark.parametrize("num_beams", [1, 3])
def test_jax_equals_torch_after_padded_prompts(pair_of: Callable[[str, str], Any], num_beams: int) -> None:
    pair = pair_of("wav2vec2-layer", "roberta")
    batch = {**pair.audio(len(TEXTS), seed=3), "decoder_input_ids": TEXTS[:, :5]}
    options = {"num_beams": num_beams, "max_new_tokens": 8}
    expected = pair.reference.generate(**batch, **options)
    ours = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder)
    written = ours.generate(**{name: value.numpy() for name, value in batch.items()}, **options)
    assert np.asarray(written).tolist() == expected.tolist()


# Prompts of four lengths, padded on the left; the mask says so.
PROMPTS = torch.tensor([[1, 1, 0, 5, 9], [1, 0, 8, 5, 4], [0, 5, 9, 17, 6], [1, 1, 1, 0, 8]])
COUNTS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("decoder", ["bert", "gpt2", "bart", "roberta"])
def test_generate_after_masked_prompts(pair_of: Callable[[str, str], Any], decoder: str, num_beams: int) -> None:
    """These decoders count all positions; the mask only hides padding."""
    pair = pair_of("wav2vec2-layer", decoder)
    batch = {**pair.audio(len(PROMPTS), seed=3), "decoder_input_ids": PROMPTS, "decoder_attention_mask": COUNTS}
    options = {"num_beams": num_beams, "max_new_tokens": 8}
    expected = pair.reference.generate(**batch, **options)
    assert torch.equal(pair.load().generate(**batch, **options), expected)


# Text models without cross-attention, one per kind of positions.
COVERED = ("gemma", "gemma2", "granite", "llama", "mistral", "olmo2", "phi", "phi3", "qwen2", "qwen3")
ALONE = [decoder for decoder, fusion in DECODERS if fusion == "prefix" and decoder not in COVERED]


@pytest.fixture(scope="module", params=ALONE)
def text_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A text model without cross-attention, and its folder, saved by `transformers`."""
    config = reference_config(request.param, vocab_size=VOCAB, tie_word_embeddings=False)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomize(theirs)
    folder = tmp_path_factory.mktemp("text")
    theirs.save_pretrained(folder)
    return theirs, folder


def continued(theirs: Any, num_beams: int) -> torch.Tensor:
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": PAD, "eos_token_id": EOS}
    return theirs.generate(PROMPTS, attention_mask=COUNTS, num_beams=num_beams, **options)


def test_logits_of_left_padded_sequences(text_model: tuple[Any, Path]) -> None:
    """At once, with a cache, and token by token, in both backends; positions as in `generate` of `transformers`."""
    theirs, folder = text_model
    places = (COUNTS.cumsum(1) - 1).clamp(min=0)
    expected = theirs(PROMPTS, attention_mask=COUNTS, position_ids=places).logits
    real = COUNTS.bool()
    if theirs.config.model_type == "opt":  # its forward pass counts by the mask too
        assert torch.equal(theirs(PROMPTS, attention_mask=COUNTS).logits[real], expected[real])
    ours, flax = TextDecoder.from_pretrained(folder), load_part(BACKEND, JaxTextDecoder, folder, LoadOptions())[0]
    assert_close(ours(PROMPTS, attention_mask=COUNTS).logits[real], expected[real])
    assert_close(np.asarray(flax(PROMPTS.numpy(), COUNTS.numpy()).logits)[COUNTS.numpy() == 1], expected[real])
    for decoder, tokens, mask in (ours, PROMPTS, COUNTS), (flax, PROMPTS.numpy(), COUNTS.numpy()):
        cache: Any = None
        for first, last in (0, 3), (3, 4), (4, 5):
            out = decoder(tokens[:, first:last], mask[:, :last], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            some = real[:, first:last]
            assert_close(np.asarray(out.logits)[some.numpy()], expected[:, first:last][some])


@pytest.mark.parametrize("num_beams", [1, 3])
def test_text_model_generates_after_left_padded_prompts(text_model: tuple[Any, Path], num_beams: int) -> None:
    theirs, folder = text_model
    expected = continued(theirs, num_beams)
    model = joined_with_closed_gates(folder)
    speech = {"input_values": torch.randn(len(PROMPTS), 800)}
    found = model.generate(
        **speech, decoder_input_ids=PROMPTS, decoder_attention_mask=COUNTS, num_beams=num_beams, max_new_tokens=8
    )
    assert torch.equal(found[:, PROMPTS.shape[1] :], expected[:, PROMPTS.shape[1] :])


@pytest.mark.nightly  # it compiles searches
@pytest.mark.parametrize("num_beams", [1, 3])
def test_jax_equals_torch_after_left_padded_prompts(
    text_model: tuple[Any, Path], num_beams: int, tmp_path: Path
) -> None:
    theirs, folder = text_model
    expected = continued(theirs, num_beams).numpy()
    joined_with_closed_gates(folder).save_pretrained(tmp_path)
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    batch = {"decoder_input_ids": PROMPTS.numpy(), "decoder_attention_mask": COUNTS.numpy()}
    batch["input_values"] = np.random.default_rng(0).normal(size=(len(PROMPTS), 800)).astype(np.float32)
    for steps in {}, {"return_dict_in_generate": True, "output_scores": True}:
        found = model.generate(**batch, num_beams=num_beams, max_new_tokens=8, **steps)
        found = np.asarray(found.sequences if steps else found)
        assert np.array_equal(found[:, PROMPTS.shape[1] :], expected[:, PROMPTS.shape[1] :])


def joined_with_closed_gates(folder: Path) -> SpeechEncoderDecoderModel:
    """Join a text model to an encoder with gates of 0, so that it generates what it generates alone."""
    encoder = SpeechEncoder(tiny_config("wav2vec2", feat_extract_norm="layer", do_stable_layer_norm=True))
    decoder = TextDecoder.from_pretrained(folder, add_cross_attention=True)
    config = SpeechEncoderDecoderConfig(
        encoder=encoder.config,
        decoder=decoder.config,
        fusion="cross_attention",
        decoder_start_token_id=START,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    return SpeechEncoderDecoderModel(config=config, encoder=encoder, decoder=decoder).eval()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (COUNTS[:, :3], r"which is \[4, 5\], but has \[4, 3\]"),
        (COUNTS.flip(1), "masks the last token of a prompt"),
    ],
)
def test_invalid_masks_are_refused(pair_of: Callable[[str, str], Any], mask: torch.Tensor, words: str) -> None:
    pair = pair_of("wav2vec2-layer", "bert")
    with pytest.raises(GenerationError, match=words):
        pair.load().generate(**pair.audio(4, seed=3), decoder_input_ids=PROMPTS, decoder_attention_mask=mask)
