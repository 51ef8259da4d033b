"""Feature extractors of speech language models whose files name Whisper's: its spectrogram, with a mask."""

from dataclasses import replace
from typing import Any

import numpy as np

from dragoman.audio.features.extractor import Call
from dragoman.audio.features.log_mel import LogMel
from dragoman.audio.features.padding import Row
from dragoman.audio.features.preprocessor_config import kind
from dragoman.audio.features.whisper import WhisperFeatureExtractor
from dragoman.batch import Batch

_IN_FILES = {"feature_extractor_type": "WhisperFeatureExtractor"}


@kind
class Qwen2AudioFeatureExtractor(WhisperFeatureExtractor):
    """Log-mel spectrograms of a window of fixed length, with a mask of the valid frames.

    The fields are those of `WhisperFeatureExtractor`, which is also the class that files name.
    """

    feature_size: int = 128

    def __post_init__(self) -> None:
        """Check the fields and derive the filters from them."""
        if _IN_FILES.items() <= self.extra.items():
            del self.extra["feature_extractor_type"]
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved."""
        return super().to_dict() | _IN_FILES

    def _with_mask(self, call: Call) -> bool:
        return call.return_attention_mask is not False  # Whisper's file says no, and the model needs it


@kind
class GlmAsrFeatureExtractor(Qwen2AudioFeatureExtractor):
    """Log-mel spectrograms of windows of fixed length, one after the other, with a mask of the valid frames.

    The last window is padded with silence, and so are all windows of a batch beyond the end of a shorter clip, whatever
    `padding` says. The fields are those of `WhisperFeatureExtractor`, which is also the class that files name.
    """

    def inputs(self, frames: Row, length: int, call: Call) -> LogMel:
        """Return the log-mel spectrograms of the windows of a waveform, side by side."""
        size, whole = self.n_samples, super().inputs
        return np.concatenate([whole(frames[i : i + size], size, call) for i in range(0, length, size)], axis=1)

    def _extract(self, raw_speech: Any, call: Call) -> Batch:
        whole = replace(call, padding=True, max_length=None, truncation=False, pad_to_multiple_of=self.n_samples)
        return super()._extract(raw_speech, whole)


@kind
class VoxtralFeatureExtractor(GlmAsrFeatureExtractor):
    """The log-mel spectrogram of a whole clip, padded with silence to windows of fixed length.

    Its loudest frame limits the contrast of all windows, and the silence that completes the last window counts. The
    fields are those of `WhisperFeatureExtractor`, which is also the class that files name.
    """

    def inputs(self, frames: Row, length: int, call: Call) -> LogMel:
        """Return the log-mel spectrogram of the windows of a waveform, and zeros in place of other windows."""
        own = max(-(-len(frames) // self.n_samples), 1) * self.n_samples
        features = WhisperFeatureExtractor.inputs(self, frames, own, call)
        return np.pad(features, ((0, 0), (0, (length - own) // self.hop_length)))

    def step_mask(self, mask: Row) -> Row:
        """Return the mask of the frames of the windows that a waveform begins."""
        windows = mask.reshape(-1, self.n_samples).max(1)
        return np.repeat(windows, self.nb_max_frames)
