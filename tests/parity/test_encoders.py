"""The speech encoders outside the matrix of test_models.py: each alone, joined to one decoder, and in JAX.

With few clips each, as the matrix covers what they share with wav2vec 2.0. Decoders other than BERT are in the slow
tests, generation in JAX in the nightly ones.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from transformers.models.sew_d.modeling_sew_d import build_relative_position

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoder, SpeechEncoderDecoderModel
from dragoman.checkpoint.options import LoadOptions
from dragoman.jax.backend import BACKEND
from dragoman.jax.net.disentangled import distance_index as jax_distance_index
from dragoman.jax.parts import SpeechEncoder as JaxEncoder
from dragoman.model.load import load_part
from dragoman.spec import DisentangledSpec
from dragoman.testing import tiny_config
from dragoman.torch.net.disentangled import distance_index

from .conftest import MORE_ENCODERS, assert_close

ENCODERS = tuple(MORE_ENCODERS)
# Every kind of part once by every test; the others by the nightly tests, but for their states, alone and padded.
QUICK = {
    "unispeech-large", "unispeech-sat", "data2vec-audio", "sew", "sew-d", "speech_to_text", "wav2vec2-conformer",
    "wav2vec2-bert", "parakeet_encoder",
}  # fmt: skip
SOME = [pytest.param(name, marks=() if name in QUICK else pytest.mark.nightly) for name in ENCODERS]
OTHERS = ("gpt2", "bart", "mbart", "whisper")
LENGTHS = torch.tensor([800, 799, 640, 333])
TOKENS = torch.tensor([[0, 5, 9, 17, 4]])

Build = Callable[[str, str], Any]


def padded(pair: Any) -> dict[str, torch.Tensor]:
    """Clips of several lengths, padded with zeros."""
    inputs = pair.audio(len(LENGTHS), seed=11)["inputs"]
    valid = torch.ceil(LENGTHS * inputs.shape[1] / 800).long()
    mask = torch.arange(inputs.shape[1]) < valid[:, None]
    inputs[~mask] = 0.0
    return {"inputs": inputs, "attention_mask": mask.long()}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_alone(pair_of: Build, name: str, tmp_path: Path) -> None:
    """The states of every layer, and a saved folder that `transformers` loads."""
    pair = pair_of(name, "bert")
    theirs = pair.reference.encoder
    theirs.save_pretrained(tmp_path / "theirs")
    ours = SpeechEncoder.from_pretrained(tmp_path / "theirs")
    inputs = pair.audio(3, seed=5)["inputs"]
    found, expected = (model(inputs, output_hidden_states=True) for model in (ours, theirs))
    assert_close(found.last_hidden_state, expected.last_hidden_state)
    for a, b in zip(found.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        assert_close(a, b)
    explicit = ours(inputs, output_attentions=True)
    assert_close(explicit.last_hidden_state, expected.last_hidden_state)
    assert all(torch.allclose(probs.sum(-1), torch.ones(())) for probs in explicit.attentions)
    ours.save_pretrained(tmp_path / "ours")
    back = pair.reload_encoder(tmp_path / "ours")
    assert_close(back(inputs).last_hidden_state, expected.last_hidden_state)


@pytest.mark.parametrize("name", ENCODERS)
def test_padded_batch(pair_of: Build, name: str) -> None:
    """Equal to `transformers`; in our "exact" mode, equal to `transformers` on each clip alone."""
    pair = pair_of(name, "bert")
    model = pair.load()
    batch = padded(pair) | {"decoder_input_ids": TOKENS.expand(len(LENGTHS), -1)}
    assert_close(model(**batch).logits, pair.reference(**batch).logits)
    model.set_padding("exact")
    batch["inputs"][~batch["attention_mask"].bool()] = 5.0  # loud padding, so that any effect of it would show
    ours = model(**batch).logits
    for row, (clip, mask) in enumerate(zip(batch["inputs"], batch["attention_mask"], strict=True)):
        alone = pair.reference(inputs=clip[mask.bool()][None], decoder_input_ids=TOKENS)
        assert_close(ours[row], alone.logits[0])


@pytest.mark.parametrize("name", SOME)
def test_loss_and_generate(pair_of: Build, name: str) -> None:
    check_loss_and_texts(pair_of(name, "bert"))


@pytest.mark.parametrize("name", SOME)
def test_transformers_loads_the_saved_folder(pair_of: Build, name: str, tmp_path: Path) -> None:
    pair = pair_of(name, "bert")
    pair.load().save_pretrained(tmp_path)
    batch = {**pair.audio(3, seed=4), "decoder_input_ids": TOKENS.expand(3, -1)}
    assert_close(pair.reload_reference(tmp_path)(**batch).logits, pair.reference(**batch).logits)


@pytest.mark.parametrize("name", SOME)
def test_jax_equals_torch(pair_of: Build, name: str, tmp_path: Path) -> None:
    pair = pair_of(name, "bert")
    pair.reference.encoder.save_pretrained(tmp_path)
    theirs, (ours, _) = pair.load().encoder, load_part(BACKEND, JaxEncoder, tmp_path, LoadOptions())
    theirs.padding = ours.padding
    batch = padded(pair)
    expected = theirs(batch["inputs"], batch["attention_mask"])
    found = ours(*(tensor.numpy() for tensor in batch.values()))
    assert found.lengths.tolist() == expected.lengths.tolist()
    valid = torch.arange(expected.last_hidden_state.shape[1]) < expected.lengths[:, None]
    assert_close(np.asarray(found.last_hidden_state)[valid.numpy()], expected.last_hidden_state[valid])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "decoder"),
    # The omitted pair generates only two different sequences; the other conformers are compared.
    [pair for pair in product(ENCODERS, OTHERS) if pair != ("wav2vec2-conformer-no-positions", "whisper")],
)
def test_other_decoders(pair_of: Build, name: str, decoder: str) -> None:
    check_loss_and_texts(pair_of(name, decoder))


@pytest.mark.nightly
@pytest.mark.parametrize("num_beams", [1, 5])
@pytest.mark.parametrize("name", ENCODERS)
def test_generate_in_jax(pair_of: Build, name: str, num_beams: int) -> None:
    pair = pair_of(name, "bert")
    theirs, ours = pair.load(), FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder)
    theirs.set_padding("exact")
    batch = pair.audio(20, seed=2)
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    found = ours.generate(**{name: x.numpy() for name, x in batch.items()}, **options)
    assert np.asarray(found).tolist() == theirs.generate(**batch, **options).tolist()


def check_loss_and_texts(pair: Any) -> None:
    model = pair.load()
    assert model.load_report.fresh == []
    batch = pair.audio(20, seed=2)
    labels = torch.randint(3, 30, (20, 6), generator=torch.Generator().manual_seed(1))
    labels[1, 3:] = -100
    ours, theirs = model(**batch, labels=labels), pair.reference(**batch, labels=labels)
    assert_close(ours.logits, theirs.logits)
    assert_close(ours.loss, theirs.loss, "loss")
    for num_beams in 1, 5:
        options = {"num_beams": num_beams, "max_new_tokens": 12}
        texts = model.generate(**batch, **options).tolist()
        assert len({tuple(text) for text in texts}) > 2, "texts must depend on the speech to prove much"
        assert texts == pair.reference.generate(**batch, **options).tolist()


def test_whole_speech_to_text_model(tmp_path: Path) -> None:
    """Both parts of the family from one folder; the decoder's sinusoids do not count padding."""
    torch.manual_seed(0)
    config = transformers.Speech2TextConfig(**tiny_config("speech_to_text", init_std=0.3).to_dict())
    theirs = transformers.Speech2TextForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert ours.load_report.fresh == []
    ours.set_padding("reference")
    features = torch.randn(4, 41, 8)
    mask = torch.arange(41) < torch.tensor([[41], [40], [21], [7]])
    batch = {"input_features": features * mask[:, :, None], "attention_mask": mask.long()}
    tokens = torch.tensor([[0, 5, 7, 9, 1], [0, 6, 1, 1, 1], [0, 3, 9, 7, 8], [0, 9, 9, 9, 1]])
    found, expected = (model(**batch, decoder_input_ids=tokens) for model in (ours, theirs))
    assert_close(found.logits, expected.logits)
    for num_beams in 1, 5:
        options = {"num_beams": num_beams, "max_new_tokens": 12}
        assert ours.generate(**batch, **options).tolist() == theirs.generate(**batch, **options).tolist()
    ours.save_pretrained(tmp_path / "ours")
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize(("span", "farthest"), [(256, 512), (4, 8), (32, None)])
def test_disentangled_attention_buckets_of_published_size(span: int, farthest: int | None) -> None:
    """With buckets of the published size, which tiny models hardly use."""
    spec = DisentangledSpec(span=span, max_distance=farthest)
    known = {"bucket_size": span, "max_position": farthest} if farthest else {}
    expected = build_relative_position(900, 900, **known)[0] + span
    expected = expected.clamp(0, 2 * span - 1)
    assert torch.equal(distance_index(900, spec), expected)
    assert np.array_equal(jax_distance_index(900, spec), expected.numpy())
    assert np.array_equal(jax.jit(lambda: jax_distance_index(900, spec))(), expected.numpy())
