"""The data collator of sequence-to-sequence training: prepared examples as one padded batch, for both backends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.api.checks import IGNORED
from dragoman.batch import Batch, to_framework, to_numpy
from dragoman.errors import ConfigError, did_you_mean
from dragoman.processing.parts import AnyFeatureExtractor

_INPUTS = ("input_values", "input_features")


@dataclass
class DataCollatorSpeechSeq2SeqWithPadding:
    """Joins examples of speech and labels into a batch for the loss of a `SpeechEncoderDecoderModel`.

    Labels are padded with −100, which the loss ignores. The model puts the start token before the labels, so one that a
    tokenizer wrote at the beginning of a row is cut, row by row. A row that holds nothing else is kept: where start
    and end are one token, as in BART and GPT-2, it is the label of a clip in which nobody speaks.

    Attributes:
        processor: With the encoder's `feature_extractor`; of dragoman or of `transformers`.
        decoder_start_token_id: The start id: `model.config.decoder_start_token_id`.
        forward_attention_mask: Return the mask of valid samples or frames, also where the feature extractor does not
            by itself. A clip of a padded batch then gives the same states as alone.
        return_tensors: "pt" for PyTorch, "np" or "jax" for JAX.
        pad_input_to_multiple_of: Round the padded length of the audio up to a multiple: fewer shapes to compile.
        pad_target_to_multiple_of: The same for the labels.

    Raises:
        ConfigError: If the processor has no feature extractor, or the start id is not a number.

    Example:
        >>> collate = DataCollatorSpeechSeq2SeqWithPadding(processor, model.config.decoder_start_token_id, True)
        >>> batch = collate([{"input_values": wave, "labels": tokenizer(text).input_ids} for wave, text in examples])
        >>> model(**batch).loss.backward()
    """

    processor: Any
    decoder_start_token_id: int
    forward_attention_mask: bool = False
    return_tensors: str = "pt"
    pad_input_to_multiple_of: int | None = None
    pad_target_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(getattr(self.processor, "feature_extractor", None), AnyFeatureExtractor):
            raise ConfigError(
                "`processor` must have a `feature_extractor` and a `tokenizer`, as a Wav2Vec2Processor or a "
                f"WhisperProcessor has, but is a {type(self.processor).__name__}."
            )
        if not isinstance(self.decoder_start_token_id, int | np.integer):
            raise ConfigError(
                f"`decoder_start_token_id` must be the start id of the model, but is {self.decoder_start_token_id!r}. "
                "Set it first: model.config.decoder_start_token_id = tokenizer.cls_token_id, or another id."
            )

    def __call__(self, features: Sequence[Mapping[str, Any]], return_tensors: str | None = None) -> Batch:
        """Return a batch of examples.

        Args:
            features: For each example `input_values` or `input_features`, as the feature extractor returns them for one
                clip, and `labels`, its token ids; an `attention_mask` of the clip if it has one. Other keys are left
                out.
            return_tensors: Used instead of the field of this name.

        Returns:
            The audio, perhaps its `attention_mask`, and `labels`, int64 `[batch, tokens]`.

        Raises:
            ConfigError: If there is no example, or one lacks its audio or its labels, or has labels of another shape.
        """
        if len(features) == 0:
            raise ConfigError("A batch needs at least one example, but `features` is empty.")
        kind = return_tensors or self.return_tensors
        batch = self._audio(features, kind)
        rows = [self._row(index, example) for index, example in enumerate(features)]
        multiple = self.pad_target_to_multiple_of or 1
        width = -(-max(1, *map(len, rows)) // multiple) * multiple
        labels = np.full((len(rows), width), IGNORED, np.int64)
        for padded, row in zip(labels, rows, strict=True):
            padded[: len(row)] = row
        batch["labels"] = to_framework(labels, kind)
        return batch

    def _audio(self, features: Sequence[Mapping[str, Any]], return_tensors: str) -> Batch:
        """Return the padded audio, and its mask where it is wanted."""
        extractor = self.processor.feature_extractor
        name = next((name for name in _INPUTS if name in features[0]), extractor.model_input_names[0])
        masked = self.forward_attention_mask or bool(getattr(extractor, "return_attention_mask", False))
        names = [name, "attention_mask"] if masked and all("attention_mask" in row for row in features) else [name]
        clips = [{key: _entry(index, row, key) for key in names} for index, row in enumerate(features)]
        padded = extractor.pad(
            clips,
            padding=True,
            pad_to_multiple_of=self.pad_input_to_multiple_of,
            return_attention_mask=masked,
            return_tensors=return_tensors,
        )
        return Batch(padded)

    def _row(self, index: int, example: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Return the labels of an example without the start token."""
        row = to_numpy(_entry(index, example, "labels"))
        if row.ndim != 1 or (row.size and not np.issubdtype(row.dtype, np.integer)):
            raise ConfigError(
                f"`labels` of example {index} must be a list of token ids, but have the shape {list(row.shape)} and "
                f"the type {row.dtype}. Tokenize one transcript at a time, without `return_tensors`."
            )
        silent = (IGNORED, getattr(getattr(self.processor, "tokenizer", None), "pad_token_id", None))
        follows = any(token not in silent for token in row[1:].tolist())
        return row[1:] if follows and row[0] == self.decoder_start_token_id else row


def _entry(index: int, example: Mapping[str, Any], name: str) -> Any:
    """Return one entry of an example.

    Raises:
        ConfigError: If it is not there.
    """
    if name not in example:
        raise ConfigError(
            f"Example {index} has no {name!r}, only {', '.join(example)}.{did_you_mean(name, list(example))}"
        )
    return example[name]
