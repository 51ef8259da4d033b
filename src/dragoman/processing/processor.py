"""Processors: a feature extractor for speech and a tokenizer for text, in one call."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dragoman.batch import Batch
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES
from dragoman.files import write_json
from dragoman.hub import local_folder
from dragoman.processing.from_files import read_feature_extractor, read_tokenizer, split_options
from dragoman.processing.nemo import CanaryPrompts, CoherePrompts
from dragoman.processing.parts import AnyFeatureExtractor, AnyTokenizer, WhisperPrompts
from dragoman.publishing import PUSH_OPTIONS, PushMethods, pushed
from dragoman.text.tokenizer import Tokenizer


class SpeechProcessor(PushMethods):
    """Any feature extractor and any tokenizer.

    Args:
        feature_extractor: Turns waveforms into inputs of the encoder; of dragoman or of `transformers`.
        tokenizer: Turns transcripts into labels, and ids into transcripts; of dragoman or of `transformers`.

    Raises:
        ConfigError: If they are of other types, or in the wrong order.
    """

    def __init__(self, feature_extractor: AnyFeatureExtractor, tokenizer: AnyTokenizer) -> None:
        if not isinstance(feature_extractor, AnyFeatureExtractor) or not isinstance(tokenizer, AnyTokenizer):
            raise ConfigError(
                f"A {type(self).__name__} needs a feature extractor and a tokenizer, in this order, but got a "
                f"{type(feature_extractor).__name__} and a {type(tokenizer).__name__}."
            )
        self.feature_extractor: Any = feature_extractor
        self.tokenizer: Any = tokenizer
        self._in_target = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Read both from a folder or the hub.

        Args:
            pretrained_model_name_or_path: A local folder, or a hub id such as "facebook/wav2vec2-base-960h".
            kwargs: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`, `subfolder`; settings of the
                tokenizer (see `AutoTokenizer`); fields of the feature extractor.

        Raises:
            ModelNotFoundError: If a file is missing; the message lists those to provide.
            ConfigError: If the feature extractor is malformed or unknown.
            TokenizerError: If the tokenizer is.
        """
        folder, options = local_folder(pretrained_model_name_or_path, kwargs)
        audio, text = split_options(options)
        return cls(read_feature_extractor(folder, audio), read_tokenizer(folder, text))

    def __call__(
        self,
        audio: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        sampling_rate: int | None = None,
        padding: bool | str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        device: str | None = None,
        audio_kwargs: Mapping[str, Any] | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Prepare speech, text or both.

        Args:
            audio: A waveform `[samples]` or several; see the feature extractor.
            text: A transcript or several; see the tokenizer.
            sampling_rate: Of `audio`, in hertz; it must be that of the feature extractor.
            padding: Whether and how to pad features and labels. This and the arguments below have the defaults of the
                feature extractor and the tokenizer.
            truncation: Whether to cut.
            max_length: In samples for audio, in tokens for text.
            pad_to_multiple_of: Round padded lengths up to a multiple.
            return_attention_mask: Whether to return a mask.
            return_tensors: "np", "pt", "jax" or `None`.
            device: Has no effect; NumPy computes the same result.
            audio_kwargs: Arguments for the feature extractor only.
            text_kwargs: Arguments for the tokenizer only.

        Returns:
            With `audio`, the features (`input_values` or `input_features`, perhaps `attention_mask`), and with `text`
            also its ids as `labels`. With `text` alone, `input_ids` and `attention_mask`.

        Raises:
            ConfigError: If both are `None`.
        """
        if self._in_target and text is None:
            audio, text = None, audio
        if audio is None and text is None:
            raise ConfigError("A processor needs `audio` (waveforms), `text`, or both.")
        shared = {
            "padding": padding,
            "truncation": truncation,
            "max_length": max_length,
            "pad_to_multiple_of": pad_to_multiple_of,
            "return_attention_mask": return_attention_mask,
            "return_tensors": return_tensors,
        }
        given = {name: value for name, value in shared.items() if value is not None}
        if audio is None:
            return Batch(self.tokenizer(text, **{**given, **(text_kwargs or {})}))
        audio_options = {**given, "sampling_rate": sampling_rate, **(audio_kwargs or {})}
        features = Batch(self.feature_extractor(audio, **audio_options))
        if text is not None:
            features["labels"] = self.tokenizer(text, **{**given, **(text_kwargs or {})})["input_ids"]
        return features

    def pad(
        self,
        input_features: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        labels: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> Batch:
        """Join examples that were prepared one by one into a batch, as a data collator does.

        Args:
            input_features: Mappings with `input_values` or `input_features`.
            labels: Mappings with `input_ids`, padded with the pad token; the loss ignores -100, so replace it.
            padding: As for the call, like the arguments below.
            max_length: In samples or frames for features, in tokens for labels.
            pad_to_multiple_of: Round padded lengths up to a multiple.
            return_attention_mask: Whether to return a mask of the features.
            return_tensors: "np", "pt", "jax" or `None`.

        Raises:
            ConfigError: If both are `None`.
        """
        if input_features is None and labels is None:
            raise ConfigError("`pad` needs `input_features`, `labels`, or both.")
        shared: dict[str, Any] = {
            "padding": padding,
            "max_length": max_length,
            "pad_to_multiple_of": pad_to_multiple_of,
            "return_tensors": return_tensors,
        }
        texts = None if labels is None else Batch(self.tokenizer.pad(labels, **shared))
        if input_features is None:
            assert texts is not None
            return texts
        shared["return_attention_mask"] = return_attention_mask
        batch = Batch(self.feature_extractor.pad(input_features, **shared))
        if texts is not None:
            batch["labels"] = texts["input_ids"]
        return batch

    @contextmanager
    def as_target_processor(self) -> Iterator[None]:
        """Take the first argument of calls as text, in all threads; deprecated: use `text`."""
        warnings.warn("`as_target_processor` is deprecated: pass `text=…`.", FutureWarning, stacklevel=3)
        before, self._in_target = self._in_target, True
        try:
            yield
        finally:
            self._in_target = before

    def decode(self, token_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Decode ids; see `Tokenizer.decode`."""
        return self.tokenizer.decode(token_ids, *args, **kwargs)

    def batch_decode(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Decode rows of ids; see `Tokenizer.batch_decode`."""
        return self.tokenizer.batch_decode(sequences, *args, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """Keys that a call may return and that the model takes."""
        return [*self.feature_extractor.model_input_names, "labels"]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **ways: Any) -> tuple[str, ...]:
        """Write files that `dragoman` and `transformers` read, and return their paths.

        Args:
            save_directory: Made if it does not exist.
            **ways: `push_to_hub=True` with the options of `push_to_hub`.
        """
        if unknown := ways.keys() - PUSH_OPTIONS:
            known = ", ".join(sorted(PUSH_OPTIONS))
            raise ConfigError(f"`{min(unknown)}` is not an option of `save_pretrained`; those are {known}.")
        with pushed(self, save_directory, ways) as folder:
            return self._save(folder)

    def _save(self, folder: Path) -> tuple[str, ...]:
        name = type(self).__name__
        if name == "SpeechProcessor":  # only dragoman has it
            name = processor_of(self.feature_extractor).__name__
        known = {"processor_class": name} if isinstance(self.tokenizer, Tokenizer) else {}
        written = self.tokenizer.save_pretrained(folder, **known)
        write_json(folder / "preprocessor_config.json", self.feature_extractor.to_dict() | {"processor_class": name})
        # release 5 of `transformers` writes the extractor there, which would override the file just written
        (folder / "processor_config.json").unlink(missing_ok=True)
        return (*written, str(folder / "preprocessor_config.json"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(feature_extractor={self.feature_extractor!r}, tokenizer={self.tokenizer!r})"


class Wav2Vec2Processor(SpeechProcessor):
    """The processor of wav2vec 2.0-like encoders and any decoder."""


class Speech2Text2Processor(SpeechProcessor):
    """The processor of wav2vec 2.0 and a Speech2Text2 decoder."""


class Speech2TextProcessor(SpeechProcessor):
    """The processor of Speech to Text, and of its encoder and any decoder."""


class Wav2Vec2BertProcessor(SpeechProcessor):
    """The processor of wav2vec2-bert and any decoder."""


class ParakeetProcessor(SpeechProcessor):
    """The processor of Parakeet's encoder and any decoder."""


class GlmAsrProcessor(SpeechProcessor):
    """The processor of GLM-ASR, and of its encoder and any decoder."""


class CanaryProcessor(CanaryPrompts, SpeechProcessor):
    """The processor of Canary."""


class CohereAsrProcessor(CoherePrompts, SpeechProcessor):
    """The processor of Cohere Transcribe."""


class Qwen2AudioProcessor(SpeechProcessor):
    """The processor of Qwen2-Audio, and of its encoder and any decoder."""


class Qwen3ASRProcessor(SpeechProcessor):
    """The processor of Qwen3-ASR, and of its encoder and any decoder."""


class VoxtralProcessor(SpeechProcessor):
    """The processor of Voxtral, and of its encoder and any decoder."""


class WhisperProcessor(SpeechProcessor):
    """The processor of Whisper, and of its encoder and any decoder."""

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """Return (position, id) for each token to force in generation; see `WhisperTokenizer`."""
        return self._whisper().get_decoder_prompt_ids(task, language, no_timestamps)

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """Return the ids of a preceding transcript; see `WhisperTokenizer`."""
        return self._whisper().get_prompt_ids(text, return_tensors)

    def _whisper(self) -> WhisperPrompts:
        if not isinstance(self.tokenizer, WhisperPrompts):
            raise ConfigError(
                f"Prompts need a WhisperTokenizer, but the tokenizer is a {type(self.tokenizer).__name__}."
            )
        return self.tokenizer


_ALL: list[type[SpeechProcessor]] = [SpeechProcessor, *SpeechProcessor.__subclasses__()]
PROCESSORS: dict[str, type[SpeechProcessor]] = {kind.__name__: kind for kind in _ALL}
_OF_EXTRACTOR = {
    family.feature_extractor: PROCESSORS[family.processor]
    for family in FAMILIES
    if family.feature_extractor and family.processor
}


def processor_of(feature_extractor: AnyFeatureExtractor) -> type[SpeechProcessor]:
    """Return the processor class of the families with such a feature extractor."""
    return _OF_EXTRACTOR[type(feature_extractor).__name__]
