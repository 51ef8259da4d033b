"""The feature extractor of Whisper: log-mel spectrograms of 30 s; names, arguments and outputs of Hugging Face."""

from typing import Any

import numpy as np

from dragoman.audio.features.log_mel import LogMel, log_mel_spectrogram, mel_filter_bank
from dragoman.audio.features.padding import (
    checked_rows,
    lengths_to_pad_to,
    pad_rows,
    padding_masks,
    stack,
    truncate,
)
from dragoman.audio.features.preprocessor_config import StoredExtractor, check_fields, extra_fields
from dragoman.audio.waveform import MAX_RATE, MIN_RATE, Waveform, normalise
from dragoman.batch import Batch
from dragoman.errors import AudioError

__all__ = ["WhisperFeatureExtractor"]


class WhisperFeatureExtractor(StoredExtractor):
    """What Whisper takes: the log-mel spectrogram of a window of fixed length, silence added where the clip is shorter.

    A clip that is longer than the window is an error, unless `truncation` says what to do with it: Hugging Face drops
    what comes after 30 s without a word.

    Args:
        feature_size: Mel bands: 80, or 128 from large-v3 on.
        sampling_rate: Of the waveforms, in hertz.
        hop_length: Samples from one frame to the next.
        chunk_length: Length of the window, in seconds.
        n_fft: Samples in a frame, even.
        padding_value: Of the samples added to shorter clips: silence.
        dither: Standard deviation of noise added to the samples; always the same noise, so that results repeat.
        return_attention_mask: Whether to return the mask by default.
        padding_side: "right" or "left".
        **kwargs: Other fields of a `preprocessor_config.json`; kept, and saved again.

    Raises:
        ConfigError: If a field is of the wrong kind or out of range.

    Reference: Whisper, section 2.2, https://arxiv.org/abs/2212.04356.
    """

    model_input_names = ("input_features",)

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16_000,
        hop_length: int = 160,
        chunk_length: int = 30,
        n_fft: int = 400,
        padding_value: float = 0.0,
        dither: float = 0.0,
        return_attention_mask: bool = False,
        *,
        padding_side: str = "right",
        **kwargs: Any,
    ) -> None:
        self.feature_size = feature_size
        self.sampling_rate = sampling_rate
        self.hop_length = hop_length
        self.chunk_length = chunk_length
        self.n_fft = n_fft
        self.padding_value = padding_value
        self.padding_side = padding_side
        self.dither = dither
        self.return_attention_mask = return_attention_mask
        self.extra = extra_fields(kwargs, derived=("n_samples", "nb_max_frames"))
        limits = {
            "feature_size": (1, 1024),
            "sampling_rate": (MIN_RATE, MAX_RATE),
            "hop_length": (1, 1 << 16),
            "chunk_length": (1, 3600),
            "n_fft": (2, 1 << 16),
        }
        check_fields(type(self).__name__, self._fields() | kwargs, limits)
        self.n_samples = chunk_length * sampling_rate
        self.nb_max_frames = self.n_samples // hop_length
        self.mel_filters = mel_filter_bank(num_bins=1 + n_fft // 2, num_mels=feature_size, sampling_rate=sampling_rate)

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
        """Compute features of waveforms.

        Args:
            raw_speech: A waveform `[samples]` or several: a list of them, or an array `[batch, samples]`. Floats
                around -1…1, or integers, which are scaled.
            truncation: What to do with a clip longer than `max_length`: True cuts it there, False keeps all of it,
                None (the default) raises.
            pad_to_multiple_of: Round the padded length up to a multiple, in samples.
            return_tensors: "np", "pt", "jax"; by default a NumPy array, or a list of them where lengths differ.
            return_attention_mask: Overrides the field of the same name.
            padding: "max_length" (the whole window), "longest" or True (of the batch), "do_not_pad" or False.
            max_length: In samples; by default the window, `n_samples`.
            sampling_rate: Of `raw_speech`: checked, not converted (`as_waveform` does that).
            do_normalize: Whether to normalise waveforms to zero mean and unit variance first.
            device: Without effect, and without need: the result is the same, and NumPy computes it.

        Returns:
            `input_features` float32 `[batch, feature_size, frames]`, and with a mask `attention_mask` int32 `[batch,
            frames]`.

        Raises:
            AudioError: If the waveforms cannot be used, or are longer than the model takes, or `sampling_rate` is
                another one.
            ConfigError: If arguments contradict each other.
        """
        rows = checked_rows(self, raw_speech, sampling_rate)
        max_length = max_length or self.n_samples
        if truncation:
            rows = truncate(rows, max_length, pad_to_multiple_of)
        elif truncation is None:
            self._check_length(rows, max_length)
        if do_normalize:
            rows = [normalise(row) for row in rows]
        lengths = lengths_to_pad_to([len(row) for row in rows], padding, max_length, pad_to_multiple_of)
        features = [self._features(row, length) for row, length in zip(rows, lengths, strict=True)]
        outputs = {"input_features": stack(features, return_tensors)}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            masks = padding_masks(rows, lengths, self.padding_side)
            # One of each frame's samples stands for it; the last, incomplete frame is not computed.
            masks = [mask[:: self.hop_length][: len(mask) // self.hop_length] for mask in masks]
            outputs["attention_mask"] = stack(masks, return_tensors)
        return Batch(outputs, return_tensors)

    def _check_length(self, rows: list[Waveform], max_length: int) -> None:
        for index, row in enumerate(rows):
            if len(row) > max_length:
                raise AudioError(
                    f"Waveform {index} lasts {len(row) / self.sampling_rate:.2f} s, but the model hears "
                    f"{max_length / self.sampling_rate:g} s at a time. Cut it into windows (`speech_windows` does, "
                    "at pauses), or pass `truncation=True` to lose the rest, `truncation=False` to keep all of it."
                )

    def _features(self, row: Waveform, length: int) -> LogMel:
        if length < self.hop_length:
            raise AudioError(
                f"A waveform of {length} samples is shorter than one frame ({self.hop_length} samples). Leave it out."
            )
        if self.padding_value or self.dither or self.padding_side == "left":
            [row] = pad_rows([row], [length], self.padding_value, self.padding_side)
        if self.dither:
            row = row + np.float32(self.dither) * np.random.default_rng(0).standard_normal(len(row), np.float32)
        return log_mel_spectrogram(row, filters=self.mel_filters, hop_length=self.hop_length, length=length)

    @property
    def inputs_per_second(self) -> float:
        """Steps along the time axis of what the model takes: frames."""
        return self.sampling_rate / self.hop_length

    def samples_for(self, inputs: int) -> int:
        """Return the length of the shortest waveform that gives so many steps without padding."""
        return inputs * self.hop_length

    def _fields(self) -> dict[str, Any]:
        names = (
            "feature_size",
            "sampling_rate",
            "hop_length",
            "chunk_length",
            "n_fft",
            "padding_value",
            "padding_side",
        )
        return {name: getattr(self, name) for name in (*names, "dither", "return_attention_mask")}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""
        derived = {"n_samples": self.n_samples, "nb_max_frames": self.nb_max_frames}
        return {"feature_extractor_type": type(self).__name__} | self._fields() | derived | self.extra
