"""Feature extractors: from waveforms to what an encoder takes, with the names, arguments and outputs of Hugging Face.

`Wav2Vec2FeatureExtractor` hands the waveform on, normalised and padded; `WhisperFeatureExtractor` computes log-mel
spectrograms, `Speech2TextFeatureExtractor` and `SeamlessM4TFeatureExtractor` filter banks. All work in NumPy and return
a `Batch`, as tensors of a framework if asked for. Files are only read and written locally: what a hub id means is for
`dragoman.processing` to find out.
"""

from typing import Any

from dragoman.audio.features.filter_banks import SeamlessM4TFeatureExtractor, Speech2TextFeatureExtractor
from dragoman.audio.features.padding import (
    Row,
    checked_rows,
    lengths_to_pad_to,
    pad_rows,
    padding_masks,
    stack,
    truncate,
)
from dragoman.audio.features.preprocessor_config import StoredExtractor, check_fields, extra_fields
from dragoman.audio.features.whisper import WhisperFeatureExtractor
from dragoman.audio.waveform import MAX_RATE, MIN_RATE, check_finite, check_samples, normalise
from dragoman.batch import Batch

__all__ = [
    "FeatureExtractor",
    "SeamlessM4TFeatureExtractor",
    "Speech2TextFeatureExtractor",
    "Wav2Vec2FeatureExtractor",
    "WhisperFeatureExtractor",
]


class Wav2Vec2FeatureExtractor(StoredExtractor):
    """What the wav2vec 2.0 family takes: mono samples, normalised to zero mean and unit variance, padded into a batch.

    Where no mask is returned (`return_attention_mask=False`), Hugging Face computes mean and variance over the padding
    too, so that what a clip becomes depends on its neighbours in the batch. Here the statistics are always those of
    the clip itself, and the padding is `padding_value`; `reference_padding=True` brings the other behaviour back, bit
    for bit.

    Args:
        feature_size: Features a sample: 1.
        sampling_rate: Of the waveforms, in hertz.
        padding_value: Put after (or before) shorter waveforms.
        return_attention_mask: Whether to return the mask by default. Models whose first layers use group normalisation
            (`wav2vec2-base`) were trained without, those with layer normalisation with one.
        do_normalize: Whether to normalise.
        padding_side: "right" or "left".
        reference_padding: Compute statistics as Hugging Face does; see above.
        **kwargs: Other fields of a `preprocessor_config.json`; kept, and saved again.

    Raises:
        ConfigError: If a field is of the wrong kind or out of range.

    Reference: wav2vec 2.0, section 2, https://arxiv.org/abs/2006.11477.
    """

    model_input_names = ("input_values", "attention_mask")

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        return_attention_mask: bool = False,
        do_normalize: bool = True,
        *,
        padding_side: str = "right",
        reference_padding: bool = False,
        **kwargs: Any,
    ) -> None:
        self.feature_size = feature_size
        self.sampling_rate = sampling_rate
        self.padding_value = padding_value
        self.padding_side = padding_side
        self.return_attention_mask = return_attention_mask
        self.do_normalize = do_normalize
        self.reference_padding = reference_padding
        self.extra = extra_fields(kwargs)
        limits = {"feature_size": (1, 1024), "sampling_rate": (MIN_RATE, MAX_RATE)}
        check_fields(type(self).__name__, self.to_dict() | kwargs, limits)

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str | None = False,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
    ) -> Batch:
        """Prepare waveforms for the model.

        Args:
            raw_speech: A waveform `[samples]` or several: a list of them, or an array `[batch, samples]`. Floats
                around -1…1, or integers, which are scaled.
            padding: True or "longest" (to the longest of the batch), "max_length", or False.
            max_length: In samples, for `truncation` and `padding="max_length"`.
            truncation: Whether to cut what is longer than `max_length`.
            pad_to_multiple_of: Round the padded length up to a multiple.
            return_attention_mask: Overrides the field of the same name.
            return_tensors: "np", "pt", "jax"; by default a list of NumPy arrays.
            sampling_rate: Of `raw_speech`: checked, not converted (`as_waveform` does that).

        Returns:
            `input_values` float32 `[batch, samples]`, and with a mask `attention_mask` int32 of the same shape.

        Raises:
            AudioError: If the waveforms cannot be used, or `sampling_rate` is another one.
            ConfigError: If arguments contradict each other.
        """
        check = check_finite if self.do_normalize else check_samples
        rows: list[Row] = list(checked_rows(self, raw_speech, sampling_rate, check))
        if truncation:
            rows = truncate(rows, max_length, pad_to_multiple_of)
        lengths = lengths_to_pad_to([len(row) for row in rows], padding, max_length, pad_to_multiple_of)
        with_mask = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        masks = padding_masks(rows, lengths, self.padding_side)
        if self.do_normalize and not self.reference_padding:
            rows = [normalise(row) for row in rows]
        rows = pad_rows(rows, lengths, self.padding_value, self.padding_side)
        if self.do_normalize and self.reference_padding:
            masked = with_mask and padding not in (False, None, "do_not_pad")
            valid = [int(mask.sum()) if masked else len(mask) for mask in masks]
            rows = [self._normalise_as_reference(row, count) for row, count in zip(rows, valid, strict=True)]
        values = rows if return_tensors is None else stack(rows, return_tensors)
        return Batch({"input_values": values} | ({"attention_mask": masks} if with_mask else {}), return_tensors)

    def _normalise_as_reference(self, row: Row, valid: int) -> Row:
        """Normalise a padded row; `valid` counts from its left, even where the padding is there."""
        normalised = normalise(row, heard=row[:valid])
        normalised[valid:] = self.padding_value
        return normalised

    @property
    def inputs_per_second(self) -> float:
        """Steps along the time axis of what the model takes: samples."""
        return self.sampling_rate

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform that gives so many steps."""
        return inputs

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""
        fields = {
            "feature_extractor_type": type(self).__name__,
            "feature_size": self.feature_size,
            "sampling_rate": self.sampling_rate,
            "padding_value": self.padding_value,
            "padding_side": self.padding_side,
            "return_attention_mask": self.return_attention_mask,
            "do_normalize": self.do_normalize,
        }
        if self.reference_padding:  # a field of ours, left out where it says nothing
            fields["reference_padding"] = True
        return fields | self.extra


FeatureExtractor = (
    Wav2Vec2FeatureExtractor | WhisperFeatureExtractor | Speech2TextFeatureExtractor | SeamlessM4TFeatureExtractor
)
