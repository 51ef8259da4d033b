"""The feature extractor of Whisper: log-mel spectrograms of 30 s."""

from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from dragoman.audio.features.extractor import Call, FeatureExtractor
from dragoman.audio.features.log_mel import LogMel, log_mel_spectrogram, mel_filter_bank
from dragoman.audio.features.padding import Row
from dragoman.audio.features.preprocessor_config import kind
from dragoman.audio.waveform import Waveform, normalise
from dragoman.batch import Batch
from dragoman.errors import AudioError


@kind
class WhisperFeatureExtractor(FeatureExtractor):
    """Log-mel spectrograms of a window of fixed length, the input of Whisper; shorter clips are padded with silence.

    A clip that is longer than the window is an error unless `truncation` is given: `transformers` silently drops all
    after 30 s.

    Args:
        feature_size: Mel bands: 80, or 128 from large-v3 on.
        sampling_rate: Of the waveforms, in hertz.
        hop_length: Samples from one frame to the next.
        chunk_length: Length of the window, in seconds.
        n_fft: Samples in a frame, even.
        padding_value: Value of the samples added to shorter clips.
        dither: Standard deviation of noise added to the samples; always the same noise, so that results repeat.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        **kwargs: Other fields of a `preprocessor_config.json`; they are kept and saved again.

    Raises:
        ConfigError: If a field has the wrong type or is out of range.

    Reference: Whisper, section 2.2, https://arxiv.org/abs/2212.04356.
    """

    model_input_names: ClassVar[list[str]] = ["input_features"]
    derived = ("n_samples", "nb_max_frames")

    feature_size: int = 80
    sampling_rate: int = 16_000
    hop_length: int = 160
    chunk_length: int = 30
    n_fft: int = 400
    padding_value: float = 0.0
    dither: float = 0.0
    return_attention_mask: bool = False
    padding_side: str = field(default="right", kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields and derive the filters from them."""
        super().__post_init__()
        self.n_samples = self.chunk_length * self.sampling_rate
        self.nb_max_frames = self.n_samples // self.hop_length
        self.mel_filters = mel_filter_bank(
            num_bins=1 + self.n_fft // 2, num_mels=self.feature_size, sampling_rate=self.sampling_rate
        )

    def __call__(
        self,
        raw_speech: Any,
        truncation: bool | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool | None = None,
        padding: bool | str | None = "max_length",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        do_normalize: bool | None = None,
        device: str | None = "cpu",
    ) -> Batch:
        """Return `input_features` `[batch, feature_size, frames]`; see `FeatureExtractor.__call__`."""
        call = Call(
            padding,
            max_length or self.n_samples,
            truncation,
            pad_to_multiple_of,
            return_attention_mask,
            return_tensors,
            sampling_rate,
            do_normalize,
        )
        return self._extract(raw_speech, call)

    def inputs(self, frames: Row, length: int, call: Call) -> LogMel:
        """Return the log-mel spectrogram `[feature_size, frames]` of a waveform padded to `length` samples."""
        if length < self.hop_length:
            raise AudioError(
                f"A waveform of {length} samples is shorter than one frame ({self.hop_length} samples). Leave it out."
            )
        row = normalise(frames) if call.normalize else frames
        if self.padding_value or self.dither or self.padding_side == "left":
            row = self._padded(row, length)
        if self.dither:
            row = row + np.float32(self.dither) * np.random.default_rng(0).standard_normal(len(row), np.float32)
        return log_mel_spectrogram(row, filters=self.mel_filters, hop_length=self.hop_length, length=length)

    def time_axis(self, shape: tuple[int, ...]) -> int:
        """Return the last axis, or the first of a row `[frames, feature_size]`."""
        return 0 if shape[-1] == self.feature_size != shape[0] else -1

    def silence(self, row: Row) -> float:
        """Return the value of silent frames: the loudest one less 8 decades, or the smallest energy there is."""
        return max(float(row.max()) - 2.0, -1.5)

    def step_mask(self, mask: Row) -> Row:
        """Return the mask at the first sample of each complete frame."""
        return mask[:: self.hop_length][: len(mask) // self.hop_length]

    @property
    def inputs_per_second(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform with this number of frames."""
        return inputs * self.hop_length

    def _waveforms(self, raw_speech: Any, call: Call) -> list[Waveform]:
        rows = super()._waveforms(raw_speech, call)
        for index, row in enumerate(rows):
            if call.truncation is None and call.max_length is not None and len(row) > call.max_length:
                raise AudioError(
                    f"Waveform {index} lasts {len(row) / self.sampling_rate:.2f} s, but the model takes "
                    f"{call.max_length / self.sampling_rate:g} s at a time. Cut it into windows (`speech_windows` cuts "
                    "at pauses), or pass `truncation=True` to drop the rest, `truncation=False` to keep all of it."
                )
        return rows
