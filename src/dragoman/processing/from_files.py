"""The feature extractor, tokenizer and processor that the files of a folder describe, of any age and origin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.audio.features.extractor import FeatureExtractor
from dragoman.audio.features.filter_banks import SeamlessM4TFeatureExtractor, Speech2TextFeatureExtractor
from dragoman.audio.features.parakeet import CohereAsrFeatureExtractor, ParakeetFeatureExtractor
from dragoman.audio.features.preprocessor_config import read_preprocessor_config
from dragoman.audio.features.qwen3_asr import Qwen3ASRFeatureExtractor
from dragoman.audio.features.wav2vec2 import Wav2Vec2FeatureExtractor
from dragoman.audio.features.whisper import WhisperFeatureExtractor
from dragoman.audio.features.windows import (
    GlmAsrFeatureExtractor,
    Qwen2AudioFeatureExtractor,
    VoxtralFeatureExtractor,
)
from dragoman.checkpoint.folder import gguf_metadata, read_model_config
from dragoman.errors import ConfigError, ModelNotFoundError, did_you_mean
from dragoman.families import FAMILIES
from dragoman.families.composites import joint_data
from dragoman.files import find_json
from dragoman.text.gguf import tokenizer_of
from dragoman.text.settings import OPTIONS
from dragoman.text.tekken import FILE as TEKKEN
from dragoman.text.tekken import tekken_tokenizer
from dragoman.text.tokenizer import Tokenizer
from dragoman.text.vocab_files import load_tokenizer

_EXTRACTORS: dict[str, type[FeatureExtractor]] = {
    kind.__name__: kind
    for kind in (
        Wav2Vec2FeatureExtractor,
        WhisperFeatureExtractor,
        Speech2TextFeatureExtractor,
        SeamlessM4TFeatureExtractor,
        ParakeetFeatureExtractor,
        CohereAsrFeatureExtractor,
        GlmAsrFeatureExtractor,
        Qwen2AudioFeatureExtractor,
        Qwen3ASRFeatureExtractor,
        VoxtralFeatureExtractor,
    )
}
# Processors whose feature extractor is one that files call by the name of another.
_EXTRACTOR_WITH = {family.processor: family.feature_extractor for family in FAMILIES if family.composite}
# Classes by model type, where no file names one. Early files have a model type in place of a class.
_EXTRACTOR_OF = {family.model_type: family.feature_extractor for family in FAMILIES if family.feature_extractor}
TOKENIZER_OF = {family.model_type: family.tokenizer for family in FAMILIES if family.tokenizer}


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the feature extractor, and those of the tokenizer."""
    text = {name: value for name, value in options.items() if name in OPTIONS or name == "tokenizer_type"}
    return {name: value for name, value in options.items() if name not in text}, text


def read_tokenizer(folder: Path, options: Mapping[str, Any]) -> Tokenizer:
    """Read the tokenizer of a folder; `options` are its settings, and `tokenizer_type`."""
    settings = {name: value for name, value in options.items() if name != "tokenizer_type"}
    metadata = None if (folder / "tokenizer.json").is_file() else gguf_metadata(folder)
    if metadata is not None:
        return tokenizer_of(metadata, settings)
    if not (folder / "tokenizer.json").is_file() and (folder / TEKKEN).is_file():
        return tekken_tokenizer(folder / TEKKEN, settings)
    return load_tokenizer(folder, tokenizer_type=options.get("tokenizer_type"), options=settings, class_of=TOKENIZER_OF)


def read_feature_extractor(folder: Path, options: Mapping[str, Any]) -> FeatureExtractor:
    """Read the feature extractor of a folder; `options` replace its fields.

    Raises:
        ModelNotFoundError: If no file describes one.
        ConfigError: If its class is unknown, or it is malformed.
    """
    config = read_model_config(folder)
    try:
        fields = read_preprocessor_config(folder)
    except ModelNotFoundError:
        # Whisper's features follow from the model; whether others normalise is only in the missing file.
        bins = _encoder(config).get("num_mel_bins")
        if _encoder(config).get("model_type") != "whisper" or not isinstance(bins, int):
            raise
        return WhisperFeatureExtractor(**({"feature_size": bins} | dict(options)))
    name = fields.get("feature_extractor_type") or config.get("feature_extractor_type") or _by_fields(fields, config)
    name = _EXTRACTOR_OF.get(str(name), str(name))
    name = _EXTRACTOR_WITH.get(processor_class(folder) or _processor_of(_encoder(config))) or name
    if name not in _EXTRACTORS:
        raise ConfigError(
            f"{folder} has a feature extractor of the class {name!r}; known classes are {', '.join(_EXTRACTORS)}."
            f"{did_you_mean(name, _EXTRACTORS)}"
        )
    return _EXTRACTORS[name].from_dict({**fields, "feature_extractor_type": name}, **options)


def processor_class(folder: Path) -> str | None:
    """Return the processor class that a file names, or `None`."""
    files = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "config.json")
    names = (find_json(folder / file, ConfigError).get("processor_class") for file in files)
    return next((name for name in names if isinstance(name, str)), None)


def _by_fields(fields: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the class of a file that names none; the earliest such files are of wav2vec 2.0."""
    if "preemphasis" in fields:
        return "ParakeetFeatureExtractor"
    if "n_fft" in fields or "hop_length" in fields:
        return "WhisperFeatureExtractor"
    return str(_encoder(config).get("model_type") or "wav2vec2")


def _encoder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of the speech encoder."""
    encoder = joint_data(config).get("encoder")
    return encoder if isinstance(encoder, Mapping) else config


def _processor_of(encoder: Mapping[str, Any]) -> str | None:
    """Return the processor class of an encoder's family."""
    return next((family.processor for family in FAMILIES if family.model_type == encoder.get("model_type")), None)
