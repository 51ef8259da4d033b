"""Feature extractors that hear Kaldi's filter bank: those of Speech to Text and of wav2vec2-bert (SeamlessM4T's)."""

from typing import Any

import numpy as np

from dragoman.audio.features.filter_bank import FRAMES_PER_SECOND, FilterBank, filter_bank, samples_for
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
from dragoman.audio.waveform import MAX_RATE, MIN_RATE
from dragoman.batch import Batch
from dragoman.errors import AudioError

__all__ = ["SeamlessM4TFeatureExtractor", "Speech2TextFeatureExtractor"]

_STILL = 1e-5  # what a bin that never changes varies by in float32
_NAMES = ("feature_size", "sampling_rate", "num_mel_bins", "padding_value", "padding_side", "return_attention_mask")
_LIMITS = {"feature_size": (1, 1024), "num_mel_bins": (1, 1024), "sampling_rate": (MIN_RATE, MAX_RATE)}


def _banks(extractor: Any, raw_speech: Any, sampling_rate: int | None) -> list[FilterBank]:
    """Return the filter bank of each waveform."""
    rows = checked_rows(extractor, raw_speech, sampling_rate)
    own = extractor.sampling_rate
    return [filter_bank(row, num_bins=extractor.num_mel_bins, sampling_rate=own) for row in rows]


class Speech2TextFeatureExtractor(StoredExtractor):
    """What Speech to Text takes: a log filter bank whose bins have zero mean and unit variance over each clip.

    Args:
        feature_size: Bins, once more.
        sampling_rate: Of the waveforms, in hertz.
        num_mel_bins: Bins of the filter bank.
        padding_value: Of the frames added to shorter clips.
        do_ceptral_normalize: Whether to normalise; upstream's spelling.
        normalize_means: Whether to take the mean away.
        normalize_vars: Whether to divide by the standard deviation; a bin that never changes stays zero.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        **kwargs: Other fields of a `preprocessor_config.json`; kept, and saved again.

    Raises:
        ConfigError: If a field is of the wrong kind or out of range.

    Reference: https://arxiv.org/abs/2010.05171, section 3.1.
    """

    model_input_names = ("input_features", "attention_mask")

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16_000,
        num_mel_bins: int = 80,
        padding_value: float = 0.0,
        do_ceptral_normalize: bool = True,
        normalize_means: bool = True,
        normalize_vars: bool = True,
        *,
        return_attention_mask: bool = True,
        padding_side: str = "right",
        **kwargs: Any,
    ) -> None:
        self.feature_size, self.num_mel_bins = feature_size, num_mel_bins
        self.sampling_rate = sampling_rate
        self.padding_value, self.padding_side = padding_value, padding_side
        self.do_ceptral_normalize = do_ceptral_normalize
        self.normalize_means, self.normalize_vars = normalize_means, normalize_vars
        self.return_attention_mask = return_attention_mask
        self.extra = extra_fields(kwargs)
        check_fields(type(self).__name__, self.to_dict() | kwargs, _LIMITS)

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str | None = False,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
        return_attention_mask: bool | None = None,
    ) -> Batch:
        """Compute features of waveforms.

        Args:
            raw_speech: A waveform `[samples]` or several: a list of them, or an array `[batch, samples]`. Floats
                around -1…1, or integers, which are scaled.
            padding: True or "longest" (to the longest of the batch), "max_length", or False.
            max_length: In frames, for `truncation` and `padding="max_length"`.
            truncation: Whether to cut what is longer than `max_length`.
            pad_to_multiple_of: Round the padded length up to a multiple, in frames.
            return_tensors: "np", "pt", "jax"; by default a list of NumPy arrays.
            sampling_rate: Of `raw_speech`: checked, not converted (`as_waveform` does that).
            return_attention_mask: Overrides the field of the same name.

        Returns:
            `input_features` float32 `[batch, frames, num_mel_bins]`, and with a mask `attention_mask` int32 `[batch,
            frames]`.

        Raises:
            AudioError: If the waveforms cannot be used, or `sampling_rate` is another one.
            ConfigError: If arguments contradict each other.
        """
        rows: list[Row] = list(_banks(self, raw_speech, sampling_rate))
        if truncation:
            rows = truncate(rows, max_length, pad_to_multiple_of)
        if self.do_ceptral_normalize:
            rows = [self._normalise(row) for row in rows]
        lengths = lengths_to_pad_to([len(row) for row in rows], padding, max_length, pad_to_multiple_of)
        outputs: dict[str, Any] = {"input_features": pad_rows(rows, lengths, self.padding_value, self.padding_side)}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            outputs["attention_mask"] = padding_masks(rows, lengths, self.padding_side)
        if return_tensors is not None:
            outputs = {name: stack(parts, return_tensors) for name, parts in outputs.items()}
        return Batch(outputs, return_tensors)

    def _normalise(self, row: FilterBank) -> FilterBank:
        if self.normalize_means:
            row = row - row.mean(0)
        if self.normalize_vars:
            spread = row.std(0)
            row = (row / np.where(spread < _STILL, 1.0, spread)).astype(np.float32)
        return row

    @property
    def inputs_per_second(self) -> float:
        """Steps along the time axis of what the model takes: frames."""
        return FRAMES_PER_SECOND

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform that gives so many steps."""
        return samples_for(inputs, self.sampling_rate)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""
        own = ("do_ceptral_normalize", "normalize_means", "normalize_vars")
        fields = {name: getattr(self, name) for name in (*_NAMES, *own)}
        return {"feature_extractor_type": type(self).__name__} | fields | self.extra


class SeamlessM4TFeatureExtractor(StoredExtractor):
    """What wav2vec2-bert takes: a normalised log filter bank, `stride` of its frames side by side.

    Args:
        feature_size: Bins, once more.
        sampling_rate: Of the waveforms, in hertz.
        num_mel_bins: Bins of the filter bank.
        padding_value: Of the frames added to shorter clips.
        stride: Frames of the filter bank in one frame for the model.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        **kwargs: Other fields of a `preprocessor_config.json`; kept, and saved again.

    Raises:
        ConfigError: If a field is of the wrong kind or out of range.

    Reference: https://arxiv.org/abs/2308.11596, section 3.
    """

    model_input_names = ("input_features", "attention_mask")

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16_000,
        num_mel_bins: int = 80,
        padding_value: float = 0.0,
        stride: int = 2,
        *,
        return_attention_mask: bool = True,
        padding_side: str = "right",
        **kwargs: Any,
    ) -> None:
        self.feature_size, self.num_mel_bins = feature_size, num_mel_bins
        self.sampling_rate, self.stride = sampling_rate, stride
        self.padding_value, self.padding_side = padding_value, padding_side
        self.return_attention_mask = return_attention_mask
        self.extra = extra_fields(kwargs)
        check_fields(type(self).__name__, self.to_dict() | kwargs, _LIMITS | {"stride": (1, 1024)})

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str | None = True,
        pad_to_multiple_of: int | None = 2,
        max_length: int | None = None,
        truncation: bool = False,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
        return_attention_mask: bool | None = None,
        do_normalize_per_mel_bins: bool = True,
    ) -> Batch:
        """Compute features of waveforms.

        Args:
            raw_speech: A waveform `[samples]` or several: a list of them, or an array `[batch, samples]`. Floats
                around -1…1, or integers, which are scaled.
            padding: True or "longest" (to the longest of the batch), "max_length", or False.
            pad_to_multiple_of: Round the padded length up to a multiple, in frames of the filter bank.
            max_length: In frames of the filter bank, for `truncation` and `padding="max_length"`.
            truncation: Whether to cut what is longer than `max_length`.
            return_tensors: "np", "pt", "jax"; by default NumPy arrays.
            sampling_rate: Of `raw_speech`: checked, not converted (`as_waveform` does that).
            return_attention_mask: Overrides the field of the same name.
            do_normalize_per_mel_bins: Whether each bin gets zero mean and unit variance over the clip.

        Returns:
            `input_features` float32 `[batch, frames, num_mel_bins * stride]`, and with a mask `attention_mask` int32
            `[batch, frames]`: 1 where a frame is no padding at all.

        Raises:
            AudioError: If the waveforms cannot be used, or `sampling_rate` is another one.
            ConfigError: If arguments contradict each other.
        """
        rows: list[Row] = list(_banks(self, raw_speech, sampling_rate))
        if do_normalize_per_mel_bins:
            rows = [self._normalise(row) for row in rows]
        if truncation:
            rows = truncate(rows, max_length, pad_to_multiple_of)
        lengths = lengths_to_pad_to([len(row) for row in rows], padding, max_length, pad_to_multiple_of)
        masks = padding_masks(rows, lengths, self.padding_side)
        rows = pad_rows(rows, lengths, self.padding_value, self.padding_side)
        outputs = {"input_features": stack([self._side_by_side(row) for row in rows], return_tensors)}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            # the last of the frames side by side stands for all of them
            whole = [mask[: len(mask) // self.stride * self.stride][self.stride - 1 :: self.stride] for mask in masks]
            outputs["attention_mask"] = stack(whole, return_tensors)
        return Batch(outputs, return_tensors)

    def _normalise(self, row: FilterBank) -> FilterBank:
        if len(row) < 2:
            raise AudioError(
                "A waveform with a single frame cannot be normalised. Leave out clips of less than "
                f"{samples_for(2, self.sampling_rate)} samples."
            )
        normalised: FilterBank = (row - row.mean(0)) / np.sqrt(row.var(0, ddof=1) + np.float32(1e-7))
        return normalised

    def _side_by_side(self, row: FilterBank) -> FilterBank:
        whole = len(row) // self.stride
        return row[: whole * self.stride].reshape(whole, -1)

    @property
    def inputs_per_second(self) -> float:
        """Steps along the time axis of what the model takes: frames side by side."""
        return FRAMES_PER_SECOND / self.stride

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform that gives so many steps."""
        return samples_for(inputs * self.stride, self.sampling_rate)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""
        fields = {name: getattr(self, name) for name in (*_NAMES, "stride")}
        return {"feature_extractor_type": type(self).__name__} | fields | self.extra
