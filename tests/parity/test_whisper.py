"""A whole Whisper saved by `transformers`: the same logits and sequences, and saved back."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import dragoman
from dragoman.testing import TOLERANCES, tiny_config

CLIPS = 40


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def whisper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    torch.manual_seed(0)
    fields = tiny_config("whisper", vocab_size=40, tie_word_embeddings=request.param).to_dict()
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**fields)).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim == 1:
                tensor.add_(0.1 * torch.randn_like(tensor))
            else:
                tensor.copy_(1.6 * torch.randn_like(tensor) * (tensor.shape[0] / tensor.numel()) ** 0.5)
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    return model, folder


def spectrograms() -> torch.Tensor:
    return 3 * torch.randn(CLIPS, 8, 60, generator=torch.Generator().manual_seed(1))


def test_logits_and_loss(whisper: tuple[Any, Path]) -> None:
    theirs, folder = whisper
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)
    assert model.load_report.fresh == []
    assert model.main_input_name == "inputs"
    labels = torch.randint(3, 40, (CLIPS, 9), generator=torch.Generator().manual_seed(1))
    labels[: CLIPS // 2, -3:] = -100
    ours, wanted = (m(input_features=spectrograms(), labels=labels) for m in (model, theirs))
    assert (ours.logits - wanted.logits).abs().max() <= TOLERANCES["logits"]
    # Whisper in `transformers` pads shifted labels with its own padding id, as ours does.
    assert abs(ours.loss - wanted.loss) <= TOLERANCES["loss"]


@pytest.mark.parametrize("num_beams", [1, 5])
def test_generate(whisper: tuple[Any, Path], num_beams: int) -> None:
    theirs, folder = whisper
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    # Whisper's own `generate` splits long audio and adds prompts; this is the one it calls.
    wanted = transformers.GenerationMixin.generate(theirs, spectrograms(), **options)
    assert len({tuple(text) for text in wanted.tolist()}) > 5
    assert model.generate(spectrograms(), **options).tolist() == wanted.tolist()


def test_saved_as_a_whisper(whisper: tuple[Any, Path], tmp_path: Path) -> None:
    """`transformers` cannot join these parts, so a model loaded as a Whisper is saved as one."""
    theirs, folder = whisper
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    loaded, info = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is transformers.WhisperForConditionalGeneration
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    ours, wanted = (json.loads((place / "config.json").read_text()) for place in (tmp_path, folder))
    assert {name for name in wanted.keys() & ours.keys() if wanted[name] != ours[name]} == set()
    again = dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    tensors = model.state_dict()
    assert again.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in again.state_dict().items())
    options = {"num_beams": 2, "max_new_tokens": 6}
    assert torch.equal(again.generate(spectrograms(), **options), model.generate(spectrograms(), **options))


def test_options_of_whisper_generate_are_kept(whisper: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = whisper
    kept = {"lang_to_id": {"<|en|>": 5}, "task_to_id": {"transcribe": 6}, "alignment_heads": [[0, 1]]}
    own = json.loads((folder / "generation_config.json").read_text()) | kept
    shutil.copytree(folder, tmp_path / "theirs")
    (tmp_path / "theirs" / "generation_config.json").write_text(json.dumps(own))
    dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    saved = transformers.GenerationConfig.from_pretrained(tmp_path / "ours")
    assert {name: getattr(saved, name) for name in kept} == kept


def test_saved_by_jax(whisper: tuple[Any, Path], tmp_path: Path) -> None:
    theirs, folder = whisper
    dragoman.FlaxSpeechEncoderDecoderModel.from_pretrained(folder).save_pretrained(tmp_path)
    loaded, info = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_whisper_with_a_larger_vocabulary(whisper: tuple[Any, Path], tmp_path: Path) -> None:
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(whisper[1])
    model.resize_token_embeddings(45)
    model.save_pretrained(tmp_path)
    loaded = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.get_input_embeddings().weight.shape[0] == 45


def test_parts_of_two_whispers_are_saved_as_a_joint_model(whisper: tuple[Any, Path], tmp_path: Path) -> None:
    """No Whisper has parts with different settings, so the folder has a layout that only dragoman reads."""
    _, folder = whisper
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder, encoder_dropout=0.3)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "speech-encoder-decoder"
    again = dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert (again.config.encoder.dropout, again.config.decoder.dropout) == (0.3, model.config.decoder.dropout)


def test_suppressed_tokens_are_read(whisper: tuple[Any, Path]) -> None:
    theirs, folder = whisper
    kept = theirs.generation_config
    theirs.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        suppress_tokens=[5, 6, 7],
        begin_suppress_tokens=[9, 2],
    )
    theirs.generation_config.save_pretrained(folder)
    try:
        model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)
        wanted = transformers.GenerationMixin.generate(theirs, spectrograms(), max_new_tokens=12)
        ours = model.generate(spectrograms(), max_new_tokens=12)
    finally:
        theirs.generation_config = kept
        theirs.generation_config.save_pretrained(folder)
    assert ours.tolist() == wanted.tolist()
    assert not torch.isin(ours[:, 1:], torch.tensor([5, 6, 7])).any()


def test_each_part_alone(whisper: tuple[Any, Path]) -> None:
    theirs, folder = whisper
    encoder = dragoman.SpeechEncoder.from_pretrained(folder)
    wanted = theirs.model.encoder(spectrograms()).last_hidden_state
    assert (encoder(input_features=spectrograms()).last_hidden_state - wanted).abs().max() <= TOLERANCES["logits"]
    decoder = dragoman.TextDecoder.from_pretrained(folder)
    tokens = torch.randint(3, 40, (CLIPS, 5), generator=torch.Generator().manual_seed(2))
    logits = decoder(tokens, encoder_hidden_states=wanted).logits
    expected = theirs(encoder_outputs=(wanted,), decoder_input_ids=tokens).logits
    assert (logits - expected).abs().max() <= TOLERANCES["logits"]


def test_too_long_spectrogram_is_refused(whisper: tuple[Any, Path]) -> None:
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(whisper[1])
    with pytest.raises(dragoman.AudioError, match="positions for 30"):
        model.generate(torch.randn(1, 8, 62))


@pytest.mark.parametrize("frames", [2, 24, 58])
def test_shorter_window_needs_no_padding(whisper: tuple[Any, Path], frames: int) -> None:
    """`transformers` takes windows of one length only; it gets a position table as short as the clip."""
    theirs, folder = whisper
    config = copy.deepcopy(theirs.config)
    config.max_source_positions = frames // 2
    short = type(theirs.model.encoder)(config).eval()
    weights = theirs.model.encoder.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][: frames // 2]
    short.load_state_dict(weights)
    clip = spectrograms()[:, :, :frames]
    expected = short(clip).last_hidden_state
    ours = dragoman.SpeechEncoder.from_pretrained(folder)(input_features=clip).last_hidden_state
    assert (ours - expected).abs().max() <= TOLERANCES["logits"]
    flax = dragoman.FlaxSpeechEncoderDecoderModel.from_pretrained(folder).encoder
    assert np.abs(flax(input_features=clip.numpy()).last_hidden_state - expected.numpy()).max() <= TOLERANCES["logits"]
    texts = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder).generate(clip, max_new_tokens=4)
    assert texts.shape[0] == len(clip)
