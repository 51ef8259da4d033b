"""The feature extractor of the wav2vec 2.0 family: normalised waveforms."""

from dataclasses import field
from typing import Any, ClassVar

from dragoman.audio.features.extractor import Call, FeatureExtractor
from dragoman.audio.features.padding import Row, normalise_padded
from dragoman.audio.features.preprocessor_config import kind
from dragoman.audio.waveform import Waveform, check_finite, check_samples, normalise
from dragoman.batch import Batch


@kind
class Wav2Vec2FeatureExtractor(FeatureExtractor):
    """Waveforms with zero mean and unit variance, the input of the wav2vec 2.0 family.

    Without a mask (`return_attention_mask=False`), `transformers` computes mean and variance over the padding too, so
    that the result for a clip depends on the others in the batch. Here the statistics are always those of the clip
    alone, and the padding is `padding_value`. `reference_padding=True` gives the other behaviour, bit for bit.

    Args:
        feature_size: Features per sample: 1.
        sampling_rate: Of the waveforms, in hertz.
        padding_value: Value of the padding.
        return_attention_mask: Whether to return the mask by default. Models whose first layers use group normalisation
            (`wav2vec2-base`) were trained without a mask, those with layer normalisation with one.
        do_normalize: Whether to normalise.
        padding_side: "right" or "left".
        reference_padding: Compute statistics as `transformers` does; see above.
        **kwargs: Other fields of a `preprocessor_config.json`; they are kept and saved again.

    Raises:
        ConfigError: If a field has the wrong type or is out of range.

    Reference: wav2vec 2.0, section 2, https://arxiv.org/abs/2006.11477.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "attention_mask"]
    always_stacked = False

    feature_size: int = 1
    sampling_rate: int = 16_000
    padding_value: float = 0.0
    return_attention_mask: bool = False
    do_normalize: bool = True
    padding_side: str = field(default="right", kw_only=True)
    reference_padding: bool = field(default=False, kw_only=True)

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
        device: str | None = None,
    ) -> Batch:
        """Return `input_values` `[batch, samples]`; see `FeatureExtractor.__call__`."""
        call = Call(
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask, return_tensors, sampling_rate
        )
        return self._extract(raw_speech, call)

    def inputs(self, frames: Row, length: int, call: Call) -> Row:
        """Return normalised samples `[length]`."""
        if not self.do_normalize:
            return self._padded(frames, length)
        if not self.reference_padding:
            return self._padded(normalise(frames), length)
        row = self._padded(frames, length)
        # `transformers` counts the samples of the clip from the left even if the padding is there.
        masked = self._with_mask(call) and call.padding not in (False, None, "do_not_pad")
        counted = len(frames) if masked else length
        return normalise_padded(row, counted, self.padding_value)

    @property
    def inputs_per_second(self) -> float:
        """Samples per second."""
        return self.sampling_rate

    def samples_for(self, inputs: int) -> int:
        """Return `inputs`: each sample is one."""
        return inputs

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved; `reference_padding`, unknown to `transformers`, only if it is set."""
        saved = super().to_dict()
        return saved if self.reference_padding else {k: v for k, v in saved.items() if k != "reference_padding"}

    def _check(self, row: Waveform, prefix: str) -> None:
        check = check_finite if self.do_normalize else check_samples
        check(row, prefix, self.sampling_rate)
