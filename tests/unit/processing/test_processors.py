"""Processors and the Auto classes: their calls and their files."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dragoman
from dragoman.audio.features.wav2vec2 import Wav2Vec2FeatureExtractor
from dragoman.audio.features.whisper import WhisperFeatureExtractor
from dragoman.errors import AudioError, ConfigError, ModelNotFoundError, TokenizerError
from dragoman.families import FAMILIES, Family
from dragoman.processing import (
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    Speech2Text2Processor,
    SpeechProcessor,
    Wav2Vec2Processor,
    WhisperProcessor,
)
from dragoman.processing.from_files import TOKENIZER_OF
from dragoman.processing.processor import processor_of
from dragoman.text import kinds, vocab_files

load_tokenizer = partial(vocab_files.load_tokenizer, class_of=TOKENIZER_OF)

VOCAB = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nquick\nfox\n"
WAV2VEC2 = {"sampling_rate": 16000, "do_normalize": True, "return_attention_mask": True, "feature_size": 1}


def write(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / (name + (".txt" if isinstance(content, str) else ".json"))).write_text(text)
    return folder


@pytest.fixture
def composite(tmp_path: Path) -> Path:
    """A composite as it is saved: no file names the class of a tokenizer, feature extractor or processor."""
    config = {
        "model_type": "speech-encoder-decoder",
        "encoder": {"model_type": "wav2vec2"},
        "decoder": {"model_type": "bert"},
    }
    return write(tmp_path / "composite", config=config, preprocessor_config=WAV2VEC2, vocab=VOCAB)


@pytest.fixture
def processor(composite: Path) -> SpeechProcessor:
    return AutoProcessor.from_pretrained(composite)


def waveform(samples: int = 800) -> np.ndarray[Any, Any]:
    return np.sin(np.arange(samples, dtype=np.float32))


# ---- calls


def test_audio_becomes_features(processor: SpeechProcessor) -> None:
    batch = processor(waveform(), sampling_rate=16000, return_tensors="pt")
    assert set(batch) == {"input_values", "attention_mask"}
    assert batch.input_values.shape == (1, 800)
    assert batch.input_values.dtype == torch.float32
    expected = processor.feature_extractor(waveform(), sampling_rate=16000, return_tensors="pt")
    assert torch.equal(batch.input_values, expected.input_values)


def test_text_becomes_ids(processor: SpeechProcessor) -> None:
    assert processor(text="the fox").input_ids == [2, 5, 7, 3]
    batch = processor(text=["the fox", "fox"], padding=True, return_tensors="np")
    assert batch.input_ids.tolist() == [[2, 5, 7, 3], [2, 7, 3, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_audio_and_text_become_features_and_labels(processor: SpeechProcessor) -> None:
    clips = [waveform(), waveform(500)]
    batch = processor(clips, text=["the fox", "fox"], sampling_rate=16000, padding=True, return_tensors="pt")
    assert batch.input_values.shape == (2, 800)
    assert batch.attention_mask.sum(1).tolist() == [800, 500]
    assert batch["labels"].tolist() == [[2, 5, 7, 3], [2, 7, 3, 0]]


def test_arguments_for_audio_or_text_only(processor: SpeechProcessor) -> None:
    batch = processor(
        [waveform(), waveform(500)],
        ["the fox", "the quick fox"],
        sampling_rate=16000,
        padding=True,
        audio_kwargs={"return_attention_mask": False, "max_length": 400, "truncation": True},
        text_kwargs={"add_special_tokens": False, "max_length": 2, "truncation": True},
        return_tensors="np",
    )
    assert set(batch) == {"input_values", "labels"}
    assert batch.input_values.shape == (2, 400)
    assert batch["labels"].tolist() == [[5, 7], [5, 6]]


def test_missing_inputs_are_refused(processor: SpeechProcessor) -> None:
    with pytest.raises(ConfigError, match="A processor needs `audio`"):
        processor()
    with pytest.raises(ConfigError, match="`pad` needs `input_features`, `labels`, or both"):
        processor.pad()
    with pytest.raises(AudioError, match=r"16,?000"):
        processor(waveform(), sampling_rate=8000)


def test_pad_joins_single_examples(processor: SpeechProcessor) -> None:
    features = [{"input_values": processor(waveform(n), sampling_rate=16000).input_values[0]} for n in (800, 500)]
    labels = [{"input_ids": processor(text=text).input_ids} for text in ("the fox", "fox")]
    batch = processor.pad(features, labels=labels, return_tensors="pt")
    assert batch.input_values.shape == (2, 800)
    assert batch["labels"].tolist() == [[2, 5, 7, 3], [2, 7, 3, 0]]
    assert processor.pad(labels=labels, return_tensors="np").input_ids.shape == (2, 4)
    assert "labels" not in processor.pad(features, return_tensors="pt")


def test_decoding(processor: SpeechProcessor) -> None:
    ids = torch.tensor([[2, 5, 7, 3]])
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["the fox"]
    assert processor.decode(ids[0], skip_special_tokens=True) == "the fox"
    assert processor.model_input_names == ["input_values", "attention_mask", "labels"]


def test_swapped_parts_are_refused(processor: SpeechProcessor) -> None:
    with pytest.raises(ConfigError, match="in this order, but got a BertTokenizer and a Wav2Vec2FeatureExtractor"):
        Wav2Vec2Processor(processor.tokenizer, processor.feature_extractor)  # type: ignore[arg-type]


# ---- from files


def test_composite_model_needs_no_class_names(composite: Path) -> None:
    processor = AutoProcessor.from_pretrained(composite)
    assert type(processor) is Wav2Vec2Processor
    assert type(processor.feature_extractor) is Wav2Vec2FeatureExtractor
    assert processor.tokenizer.tokenizer_class == "BertTokenizer"


@pytest.mark.parametrize(
    ("file", "fields", "kind"),
    [
        ("preprocessor_config", {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, Wav2Vec2FeatureExtractor),
        ("preprocessor_config", {"feature_extractor_type": "WhisperFeatureExtractor"}, WhisperFeatureExtractor),
        ("preprocessor_config", {"feature_extractor_type": "wav2vec2"}, Wav2Vec2FeatureExtractor),
        ("preprocessor_config", {"do_normalize": False}, Wav2Vec2FeatureExtractor),
        ("preprocessor_config", {"feature_size": 80, "hop_length": 160, "n_fft": 400}, WhisperFeatureExtractor),
        (
            "processor_config",
            {"feature_extractor": {"feature_extractor_type": "WhisperFeatureExtractor"}},
            WhisperFeatureExtractor,
        ),
    ],
)
def test_all_ways_to_name_a_feature_extractor(tmp_path: Path, file: str, fields: dict[str, Any], kind: type) -> None:
    assert type(AutoFeatureExtractor.from_pretrained(write(tmp_path, **{file: fields}))) is kind


def test_config_json_may_name_the_feature_extractor(tmp_path: Path) -> None:
    folder = write(tmp_path, preprocessor_config=WAV2VEC2, config={"feature_extractor_type": "wav2vec2"})
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is Wav2Vec2FeatureExtractor
    write(tmp_path, preprocessor_config={"feature_size": 80}, config={"encoder": {"model_type": "whisper"}})
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is WhisperFeatureExtractor


def test_whisper_feature_size_follows_from_the_model(tmp_path: Path) -> None:
    folder = write(tmp_path, config={"encoder": {"model_type": "whisper", "num_mel_bins": 128}})
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert type(extractor) is WhisperFeatureExtractor
    assert extractor.feature_size == 128


def test_other_kinds_of_extractor_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, preprocessor_config={"feature_extractor_type": "ViTFeatureExtractor"})
    with pytest.raises(
        ConfigError, match="'ViTFeatureExtractor'; known classes are Wav2Vec2FeatureExtractor, WhisperFeatureExtractor"
    ):
        AutoFeatureExtractor.from_pretrained(folder)


def test_missing_files_are_named(tmp_path: Path, composite: Path) -> None:
    folder = write(tmp_path / "encoder", config={"model_type": "wav2vec2"}, preprocessor_config=WAV2VEC2)
    with pytest.raises(ModelNotFoundError, match=r"has no tokenizer\. Add one of: tokenizer\.json"):
        AutoProcessor.from_pretrained(folder)
    (composite / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"preprocessor_config\.json"):
        AutoProcessor.from_pretrained(composite)
    assert AutoTokenizer.from_pretrained(composite).cls_token_id == 2
    with pytest.raises(ModelNotFoundError):
        AutoTokenizer.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["config", "preprocessor_config", "tokenizer_config"])
def test_corrupt_files_are_named(composite: Path, file: str) -> None:
    (composite / f"{file}.json").write_text('{"a": ')
    with pytest.raises((ConfigError, TokenizerError), match=rf"{file}\.json.* is not valid JSON"):
        AutoProcessor.from_pretrained(composite)


@pytest.mark.parametrize("file", ["processor_config", "preprocessor_config", "tokenizer_config", "config"])
@pytest.mark.parametrize("kind", [Wav2Vec2Processor, Speech2Text2Processor, WhisperProcessor])
def test_any_file_may_name_the_processor(composite: Path, file: str, kind: type) -> None:
    path = composite / f"{file}.json"
    fields = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(fields | {"processor_class": kind.__name__}))
    assert type(AutoProcessor.from_pretrained(composite)) is kind


def test_from_pretrained_returns_the_class_it_is_called_on(composite: Path) -> None:
    for kind in (Wav2Vec2Processor, Speech2Text2Processor, WhisperProcessor, SpeechProcessor):
        processor = kind.from_pretrained(composite, use_fast=True, revision=None)
        assert type(processor) is kind


def test_options_are_passed_to_their_part(composite: Path) -> None:
    processor = AutoProcessor.from_pretrained(composite, do_normalize=False, model_max_length=7, pad_token="[MASK]")
    assert processor.feature_extractor.to_dict()["do_normalize"] is False
    assert processor.tokenizer.model_max_length == 7
    assert processor.tokenizer.pad_token_id == 4
    assert AutoTokenizer.from_pretrained(composite, do_lower_case=False).tokenize("The") == ["[UNK]"]
    assert AutoTokenizer.from_pretrained(composite, tokenizer_type="electra").sep_token_id == 3
    assert AutoFeatureExtractor.from_pretrained(composite, return_attention_mask=False).return_attention_mask is False
    with pytest.raises(TokenizerError, match=r"no option 'max_len'\. Did you mean"):
        AutoTokenizer.from_pretrained(composite, max_len=3)


def test_subfolder(composite: Path) -> None:
    assert AutoTokenizer.from_pretrained(composite.parent, subfolder="composite").cls_token_id == 2


# ---- to files


def test_saved_processor_is_read_again(processor: SpeechProcessor, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "saved",
        processor_config={"feature_extractor": {"feature_extractor_type": "WhisperFeatureExtractor"}},
    )
    written = processor.save_pretrained(folder)
    assert {Path(path).name for path in written} == {path.name for path in folder.iterdir()} == {
        "preprocessor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    again = AutoProcessor.from_pretrained(folder)
    assert type(again) is Wav2Vec2Processor
    assert again.feature_extractor.to_dict() == processor.feature_extractor.to_dict()
    assert again(text="the fox").input_ids == [2, 5, 7, 3]


def test_general_processor_is_saved_under_a_class_of_transformers(processor: SpeechProcessor, tmp_path: Path) -> None:
    general = SpeechProcessor(processor.feature_extractor, processor.tokenizer)
    general.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["processor_class"] == "Wav2Vec2Processor"
    SpeechProcessor(WhisperFeatureExtractor(), processor.tokenizer).save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is WhisperProcessor


def test_whisper_prompts_need_a_whisper_tokenizer(processor: SpeechProcessor) -> None:
    with pytest.raises(ConfigError, match="Prompts need a WhisperTokenizer, but the tokenizer is a BertTokenizer"):
        WhisperProcessor(WhisperFeatureExtractor(), processor.tokenizer).get_decoder_prompt_ids("transcribe")


def test_public_names(composite: Path) -> None:
    assert dragoman.AutoProcessor is AutoProcessor
    assert dragoman.Wav2Vec2Processor is Wav2Vec2Processor
    assert isinstance(dragoman.AutoTokenizer.from_pretrained(composite), type(load_tokenizer(composite)))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_classes_named_by_a_family_exist(family: Family) -> None:
    assert family.tokenizer is None or kinds.KINDS[family.tokenizer].files
    assert (family.speech is None) == (family.feature_extractor is None)
    if family.speech:
        extractor = getattr(dragoman, family.feature_extractor)()
        sharing = [one for one in FAMILIES if one.feature_extractor == family.feature_extractor]
        assert processor_of(extractor) in {getattr(dragoman, one.processor) for one in sharing}
