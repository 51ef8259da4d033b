"""Arguments of wrong types to public functions: each raises a clear error of dragoman, never an internal one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import dragoman
from dragoman import ConfigError, DragomanError, ModelNotFoundError, SpeechEncoderDecoderModel

# Mistaken values for a folder; no hub ids, so nothing is requested over the network.
NAMES: list[Any] = [None, 3, True, 0.5, b"folder", ["folder"], {"folder": 1}, object(), "", "a b", "no/such/folder"]
NAMES += ["x" * 300, "x/" * 300, "nul\0", Path("no such"), Path("x" * 300)]
LOADERS = [
    "SpeechEncoderDecoderModel",
    "AutoModelForSpeechSeq2Seq",
    "BertLMHeadModel",
    "Wav2Vec2Model",
    "AutoConfig",
    "SpeechEncoderDecoderConfig",
    "AutoTokenizer",
    "AutoFeatureExtractor",
    "AutoProcessor",
    "Wav2Vec2Processor",
    "Wav2Vec2FeatureExtractor",
    "WhisperFeatureExtractor",
]


def named(value: Any) -> str:
    return f"{type(value).__name__}-{str(value)[:12]!r}"


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", NAMES, ids=named)
def test_folder_argument_of_wrong_type_is_refused(loader: str, name: Any) -> None:
    with pytest.raises(ModelNotFoundError):
        getattr(dragoman, loader).from_pretrained(name, local_files_only=True)


@pytest.mark.parametrize("name", NAMES, ids=named)
def test_options_folder_of_wrong_type_is_refused(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError):
        dragoman.GenerationConfig.from_pretrained(name)


@pytest.mark.parametrize("loader", LOADERS)
def test_file_instead_of_a_folder_is_refused(loader: str, tiny_checkpoint: Path) -> None:
    with pytest.raises(DragomanError):
        getattr(dragoman, loader).from_pretrained(tiny_checkpoint / "model.safetensors", local_files_only=True)


@pytest.mark.parametrize("name", [3, b"folder", ["folder"], object(), "", "no such"], ids=named)
@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_part_of_wrong_type_is_refused(role: str, name: Any, tiny_checkpoint: Path) -> None:
    model, _ = whole(tiny_checkpoint)
    given: dict[str, Any] = {"encoder_model": model.encoder, "decoder_model": model.decoder, f"{role}_model": name}
    with pytest.raises((ConfigError, ModelNotFoundError)):
        SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(**given)


@pytest.mark.parametrize("place", [None, 3, b"folder", ["folder"], object(), "", "nul\0", "x" * 300], ids=named)
@pytest.mark.parametrize("what", ["model", "part", "config", "options", "tokenizer", "processor", "extractor"])
def test_target_folder_of_wrong_type_is_refused(
    what: str, place: Any, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, processor = whole(tiny_checkpoint)
    saver = {
        "model": model,
        "part": model.decoder,
        "config": model.config,
        "options": model.generation_config,
        "tokenizer": processor.tokenizer,
        "processor": processor,
        "extractor": processor.feature_extractor,
    }[what]
    with pytest.raises(DragomanError):
        saver.save_pretrained(place)
    assert not list(tmp_path.iterdir())


@cache
def whole(folder: Path) -> Any:
    return SpeechEncoderDecoderModel.from_pretrained(folder), dragoman.AutoProcessor.from_pretrained(folder)


OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "subfolder": lambda folder, bad: SpeechEncoderDecoderModel.from_pretrained(folder, subfolder=bad),
    "allow_new": lambda folder, bad: SpeechEncoderDecoderModel.from_pretrained(folder, allow_new=bad),
    "dtype": lambda folder, bad: SpeechEncoderDecoderModel.from_pretrained(folder, dtype=bad),
    "config": lambda folder, bad: SpeechEncoderDecoderModel.from_pretrained(folder, config=bad),
    "build": lambda folder, bad: SpeechEncoderDecoderModel(config=bad),
    "part": lambda folder, bad: dragoman.SpeechEncoder(bad),
    "other part": lambda folder, bad: dragoman.TextDecoder(bad),
    "configs": lambda folder, bad: dragoman.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(bad, bad),
    "transcriber": lambda folder, bad: dragoman.Transcriber(bad),
    "processor": lambda folder, bad: dragoman.Wav2Vec2Processor(bad, bad),
    "forward": lambda folder, bad: whole(folder)[0](bad, decoder_input_ids=torch.tensor([[2]])),
    "labels": lambda folder, bad: whole(folder)[0](torch.zeros(1, 4000), labels=bad),
    "generate": lambda folder, bad: whole(folder)[0].generate(bad),
    "options": lambda folder, bad: whole(folder)[0].generate(torch.zeros(1, 4000), bad),
    "assign": lambda folder, bad: setattr(whole(folder)[0], "generation_config", bad),
    "tokenizer": lambda folder, bad: warm(folder, tokenizer=bad),
    "extractor": lambda folder, bad: warm(folder, feature_extractor=bad),
    "encode": lambda folder, bad: whole(folder)[1].tokenizer(bad),
    "decode": lambda folder, bad: whole(folder)[1].decode(bad),
}


def warm(folder: Path, **given: Any) -> Any:
    model = whole(folder)[0]
    parts = {"encoder_model": model.encoder, "decoder_model": model.decoder}
    return SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(**parts, **given)


@pytest.mark.parametrize("bad", [0.5, b"text", {"a": 1}, object()], ids=named)
@pytest.mark.parametrize("door", OTHERS)
def test_other_arguments_of_wrong_type_are_refused(door: str, bad: Any, tiny_checkpoint: Path) -> None:
    with pytest.raises(DragomanError):
        OTHERS[door](tiny_checkpoint, bad)


def test_allow_new_must_be_a_list(tiny_checkpoint: Path) -> None:
    """The characters of a string would be templates too, and "*" among them would allow everything."""
    with pytest.raises(ConfigError, match=r"`allow_new` must be a list .* but is 'decoder\.\*'"):
        SpeechEncoderDecoderModel.from_pretrained(tiny_checkpoint, allow_new="decoder.*")


def test_path_and_string_are_equivalent(tiny_checkpoint: Path) -> None:
    for loader in [LOADERS[0], "AutoConfig", "AutoTokenizer", "AutoProcessor", "Wav2Vec2FeatureExtractor"]:
        both = [getattr(dragoman, loader).from_pretrained(kind(tiny_checkpoint)) for kind in (str, Path)]
        assert type(both[0]) is type(both[1])
