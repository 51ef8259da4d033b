"""The feature extractor of Qwen3-ASR: Whisper's spectrogram of a clip of any length, in whole pieces of a second."""

from dataclasses import replace
from typing import Any

import numpy as np

from dragoman.audio.features.extractor import Call
from dragoman.audio.features.log_mel import LogMel
from dragoman.audio.features.padding import Row
from dragoman.audio.features.preprocessor_config import kind
from dragoman.audio.features.whisper import WhisperFeatureExtractor
from dragoman.audio.waveform import Waveform
from dragoman.batch import Batch


@kind
class Qwen3ASRFeatureExtractor(WhisperFeatureExtractor):
    """Log-mel spectrograms with a mask of the valid frames; frames of padding are zero, whatever `padding` says.

    Each clip is transformed alone, so that a batch gives what single clips give. In `transformers` the end of a clip
    hears the padding of its batch.

    Args:
        n_window: Half of the frames in a piece; the number of frames is a multiple of two of it.
        min_length: Samples that a shorter clip is padded to, with silence that counts as speech.
        **kwargs: The fields of `WhisperFeatureExtractor`.
    """

    feature_size: int = 128
    return_attention_mask: bool = True
    n_window: int = 50
    min_length: int = 8000

    def __post_init__(self) -> None:
        """Check the fields and derive the filters from them."""
        if self.extra.get("feature_extractor_type") == "WhisperFeatureExtractor":  # in the original files
            del self.extra["feature_extractor_type"]
        super().__post_init__()

    def frames(self, row: Waveform, call: Call) -> Row:
        """Return the samples, of which there are enough."""
        return np.pad(row, (0, max(self.min_length - len(row), 0)))

    def inputs(self, frames: Row, length: int, call: Call) -> LogMel:
        """Return the log-mel spectrogram of a waveform, padded with zeros as if it had `length` samples."""
        own = super().inputs(frames, len(frames), call)
        return np.pad(own, ((0, 0), (0, length // self.hop_length - own.shape[1])))

    def silence(self, row: Row) -> float:
        """Return the value of frames of padding."""
        return 0.0

    def step_mask(self, mask: Row) -> Row:
        """Return the mask of the frames that a waveform fills."""
        kept = np.arange(len(mask) // self.hop_length) < int(mask.sum()) // self.hop_length
        return kept.astype(mask.dtype)

    def _extract(self, raw_speech: Any, call: Call) -> Batch:
        piece = 2 * self.n_window * self.hop_length
        return super()._extract(
            raw_speech, replace(call, padding=True, max_length=None, truncation=False, pad_to_multiple_of=piece)
        )

    def _with_mask(self, call: Call) -> bool:
        return call.return_attention_mask is not False
