"""NeMo's log-mel features: the extractors of Parakeet and Canary, and of Cohere Transcribe.

Reference: FastConformer, https://arxiv.org/abs/2305.05084; the mel scale and filters are Whisper's (`log_mel`).
"""

from dataclasses import field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from dragoman.audio.features.extractor import Call, FeatureExtractor
from dragoman.audio.features.log_mel import mel_filter_bank
from dragoman.audio.features.padding import Row
from dragoman.audio.features.preprocessor_config import kind
from dragoman.audio.waveform import Waveform
from dragoman.batch import Batch
from dragoman.errors import AudioError, ConfigError

Features: TypeAlias = Float32[np.ndarray[Any, np.dtype[np.float32]], "frames mels"]

_FLOOR = np.float32(2.0**-24)  # added to the power before its logarithm is taken
_CONSTANT = np.float32(1e-5)  # added to the standard deviation of a bin
_BLOCK = 1024  # frames per Fourier transform: bounds memory and fits the CPU cache


@kind
class ParakeetFeatureExtractor(FeatureExtractor):
    """Log-mel spectrograms whose bins have zero mean and unit variance over each clip, the input of FastConformer.

    Args:
        feature_size: Mel bins.
        sampling_rate: Of the waveforms, in hertz.
        hop_length: Samples from one frame to the next.
        n_fft: Length of the Fourier transform, in samples.
        win_length: Length of the window in its middle, in samples.
        preemphasis: Share of the previous sample that is subtracted; `None` for none.
        padding_value: Value of the samples added to shorter clips; only 0 is supported.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right"; the other side is not supported.
        **kwargs: Other fields of a `preprocessor_config.json`; they are kept and saved again.

    Raises:
        ConfigError: If a field has the wrong type, is out of range or not supported.
    """

    feature_size: int = 80
    sampling_rate: int = 16_000
    hop_length: int = 160
    n_fft: int = 512
    win_length: int = 400
    preemphasis: float | None = 0.97
    padding_value: float = 0.0
    return_attention_mask: bool = field(default=True, kw_only=True)
    padding_side: str = field(default="right", kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields and derive the filters from them."""
        super().__post_init__()
        if self.padding_value or self.padding_side != "right" or not 2 <= self.win_length <= self.n_fft:
            raise ConfigError(
                f'{type(self).__name__} needs `padding_value` 0, `padding_side` "right" and a `win_length` from 2 to '
                f"`n_fft` ({self.n_fft}), but they are {self.padding_value}, {self.padding_side!r} and "
                f"{self.win_length}."
            )
        self.mel_filters = mel_filter_bank(
            num_bins=1 + self.n_fft // 2,
            num_mels=self.feature_size,
            sampling_rate=self.sampling_rate,
            max_hertz=self.sampling_rate / 2,
        ).astype(np.float32)

    def __call__(
        self,
        raw_speech: Any,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        padding: bool | str | None = "longest",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        do_normalize: bool | None = None,
        device: str | None = "cpu",
    ) -> Batch:
        """Return `input_features` `[batch, frames, feature_size]`; see `FeatureExtractor.__call__`.

        Lengths are in samples. As in `transformers`, a frame of zeros follows the valid frames, and `do_normalize` has
        no effect: all clips are normalised.
        """
        call = Call(
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask, return_tensors, sampling_rate
        )
        return self._extract(raw_speech, call)

    def inputs(self, frames: Row, length: int, call: Call) -> Features:
        """Return the features `[length // hop_length + 1, feature_size]` of a waveform padded to `length` samples."""
        valid = len(frames) // self.hop_length
        if valid < 2:
            raise AudioError(
                f"A waveform of {len(frames)} samples has {valid} frames, which cannot be normalised. Leave out clips "
                f"of less than {self.samples_for(2)} samples."
            )
        logs = np.log(self._power(self._emphasised(frames), valid) @ self.mel_filters + _FLOOR)
        logs = (logs - logs.mean(0)) / (logs.std(0, ddof=1) + _CONSTANT)
        return np.pad(logs, ((0, length // self.hop_length + 1 - valid), (0, 0)))

    def step_mask(self, mask: Row) -> Row:
        """Return the mask of complete frames, and that of the frame after them."""
        return np.pad(mask[self.hop_length - 1 :: self.hop_length], (0, 1))

    @property
    def inputs_per_second(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform with this number of frames."""
        return max(inputs, 2) * self.hop_length

    def _emphasised(self, row: Waveform) -> Waveform:
        """Return a waveform less a share of each previous sample."""
        if self.preemphasis is None:
            return row
        return np.concatenate([row[:1], row[1:] - np.float32(self.preemphasis) * row[:-1]])

    def _power(self, row: Waveform, count: int) -> Float32[np.ndarray[Any, Any], "frames bins"]:
        """Return the power of the first frames, each centred on a multiple of the hop."""
        samples = np.pad(row, self.n_fft // 2)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.n_fft)[:: self.hop_length][:count]
        window = _window(self.win_length, self.n_fft)
        power = np.empty((count, 1 + self.n_fft // 2), np.float32)
        for start in range(0, count, _BLOCK):
            spectrum = np.fft.rfft(frames[start : start + _BLOCK] * window)
            power[start : start + _BLOCK] = spectrum.real**2 + spectrum.imag**2
        return power


@kind
class CohereAsrFeatureExtractor(ParakeetFeatureExtractor):
    """The same features with a little noise, the input of Cohere Transcribe.

    Recordings of any length are one clip; `Transcriber` cuts them. In `transformers` this class cuts them itself.

    Args:
        feature_size: Mel bins.
        sampling_rate: Of the waveforms, in hertz.
        hop_length: Samples from one frame to the next.
        n_fft: Length of the Fourier transform, in samples.
        win_length: Length of the window in its middle, in samples.
        preemphasis: Share of the previous sample that is subtracted; `None` for none.
        padding_value: Value of the samples added to shorter clips; only 0 is supported.
        dither: Deviation of noise that is added, so that digital silence has features; the same for clips of a length.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right"; the other side is not supported.
        **kwargs: Other fields of a `preprocessor_config.json`; they are kept and saved again.

    Raises:
        ConfigError: If a field has the wrong type, is out of range or not supported.
    """

    feature_size: int = 128
    dither: float = field(default=1e-5, kw_only=True)

    def inputs(self, frames: Row, length: int, call: Call) -> Features:
        """Return the features of a waveform with noise; see `ParakeetFeatureExtractor.inputs`."""
        if self.dither > 0:
            noise = np.random.default_rng(len(frames)).standard_normal(len(frames), np.float32)
            frames = frames + np.float32(self.dither) * noise
        return super().inputs(frames, length, call)


@lru_cache(maxsize=8)
def _window(length: int, size: int) -> Waveform:
    """Return a symmetric Hann window in the middle of zeros."""
    before = (size - length) // 2
    window = np.hanning(length).astype(np.float32)
    return np.pad(window, (before, size - length - before))
