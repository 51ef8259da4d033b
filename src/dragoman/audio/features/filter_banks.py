"""The feature extractors with Kaldi's filter bank: Speech to Text and wav2vec2-bert (SeamlessM4T)."""

from dataclasses import field
from typing import Any

import numpy as np

from dragoman.audio.features.extractor import Call, FeatureExtractor
from dragoman.audio.features.filter_bank import FRAMES_PER_SECOND, FilterBank, filter_bank, samples_for
from dragoman.audio.features.padding import Row
from dragoman.audio.features.preprocessor_config import kind
from dragoman.audio.waveform import Waveform
from dragoman.batch import Batch
from dragoman.errors import AudioError

_CONSTANT = 1e-5  # standard deviation in float32 of a bin that never changes


@kind
class Speech2TextFeatureExtractor(FeatureExtractor):
    """Log filter banks whose bins have zero mean and unit variance over each clip, the input of Speech to Text.

    Args:
        feature_size: Bins; not used in computing.
        sampling_rate: Of the waveforms, in hertz.
        num_mel_bins: Bins of the filter bank.
        padding_value: Value of the frames added to shorter clips.
        dither: Standard deviation of noise added to each frame, of samples from -32768 to 32767; always the same noise,
            so that results repeat.
        do_ceptral_normalize: Whether to normalise; spelled as in `transformers`.
        normalize_means: Whether to subtract the mean.
        normalize_vars: Whether to divide by the standard deviation; a bin that never changes stays zero.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        **kwargs: Other fields of a `preprocessor_config.json`; they are kept and saved again.

    Raises:
        ConfigError: If a field has the wrong type or is out of range.

    Reference: https://arxiv.org/abs/2010.05171, section 3.1.
    """

    always_stacked = False

    feature_size: int = 80
    sampling_rate: int = 16_000
    num_mel_bins: int = 80
    padding_value: float = 0.0
    dither: float = 0.0
    do_ceptral_normalize: bool = True
    normalize_means: bool = True
    normalize_vars: bool = True
    return_attention_mask: bool = field(default=True, kw_only=True)
    padding_side: str = field(default="right", kw_only=True)

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
        device: str | None = None,
    ) -> Batch:
        """Return `input_features` `[batch, frames, num_mel_bins]`; see `FeatureExtractor.__call__`."""
        call = Call(
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask, return_tensors, sampling_rate
        )
        return self._extract(raw_speech, call)

    def frames(self, row: Waveform, call: Call) -> FilterBank:
        """Return the filter bank of a waveform."""
        return filter_bank(row, num_bins=self.num_mel_bins, sampling_rate=self.sampling_rate, dither=self.dither)

    def inputs(self, frames: Row, length: int, call: Call) -> FilterBank:
        """Return frames `[length, num_mel_bins]`, normalised over those that `truncation` left."""
        if self.do_ceptral_normalize and self.normalize_means:
            frames = frames - frames.mean(0)
        if self.do_ceptral_normalize and self.normalize_vars:
            deviation = frames.std(0)
            frames = (frames / np.where(deviation < _CONSTANT, 1.0, deviation)).astype(np.float32)
        return self._padded(frames, length)

    @property
    def inputs_per_second(self) -> float:
        """Frames per second."""
        return FRAMES_PER_SECOND

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform with this number of frames."""
        return samples_for(inputs, self.sampling_rate)


@kind
class SeamlessM4TFeatureExtractor(FeatureExtractor):
    """Normalised log filter banks with `stride` frames side by side, the input of wav2vec2-bert.

    Args:
        feature_size: Bins; not used in computing.
        sampling_rate: Of the waveforms, in hertz.
        num_mel_bins: Bins of the filter bank.
        padding_value: Value of the frames added to shorter clips.
        stride: Frames of the filter bank in one frame of the model.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        **kwargs: Other fields of a `preprocessor_config.json`; they are kept and saved again.

    Raises:
        ConfigError: If a field has the wrong type or is out of range.

    Reference: https://arxiv.org/abs/2308.11596, section 3.
    """

    feature_size: int = 80
    sampling_rate: int = 16_000
    num_mel_bins: int = 80
    padding_value: float = 0.0
    stride: int = 2
    return_attention_mask: bool = field(default=True, kw_only=True)
    padding_side: str = field(default="right", kw_only=True)

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
        device: str | None = None,
    ) -> Batch:
        """Return `input_features` `[batch, frames, num_mel_bins * stride]`; see `FeatureExtractor.__call__`."""
        call = Call(
            padding,
            max_length,
            truncation,
            pad_to_multiple_of,
            return_attention_mask,
            return_tensors,
            sampling_rate,
            do_normalize_per_mel_bins,
        )
        return self._extract(raw_speech, call)

    def frames(self, row: Waveform, call: Call) -> FilterBank:
        """Return the filter bank of a waveform, each bin with zero mean and unit variance."""
        frames = filter_bank(row, num_bins=self.num_mel_bins, sampling_rate=self.sampling_rate)
        if not call.normalize:
            return frames
        if len(frames) < 2:
            raise AudioError(
                "A waveform with a single frame cannot be normalised. Leave out clips of less than "
                f"{samples_for(2, self.sampling_rate)} samples."
            )
        normalised: FilterBank = (frames - frames.mean(0)) / np.sqrt(frames.var(0, ddof=1) + np.float32(1e-7))
        return normalised

    def inputs(self, frames: Row, length: int, call: Call) -> FilterBank:
        """Return `[length // stride, num_mel_bins * stride]`."""
        whole = length // self.stride
        return self._padded(frames, length)[: whole * self.stride].reshape(whole, -1)

    def step_mask(self, mask: Row) -> Row:
        """Return the mask at the last of the frames side by side."""
        return mask[: len(mask) // self.stride * self.stride][self.stride - 1 :: self.stride]

    @property
    def inputs_per_second(self) -> float:
        """Frames of the model per second."""
        return FRAMES_PER_SECOND / self.stride

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform with this number of frames of the model."""
        return samples_for(inputs * self.stride, self.sampling_rate)
