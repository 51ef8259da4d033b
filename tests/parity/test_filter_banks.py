"""Kaldi's filter bank and its two feature extractors against `transformers` (its NumPy path)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import dragoman
from dragoman.audio.features.filter_bank import filter_bank, frame_count, samples_for
from dragoman.errors import AudioError, ConfigError
from dragoman.testing import synthetic_speech

CLIPS = [synthetic_speech(seconds, seed=seed) for seed, seconds in enumerate((1.0, 0.73, 0.31))]
NAMES = "Speech2TextFeatureExtractor", "SeamlessM4TFeatureExtractor"


def both(name: str, **fields: Any) -> tuple[Any, Any]:
    return getattr(dragoman, name)(**fields), getattr(transformers, name)(**fields)


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key].shape == theirs[key].shape
        assert np.abs(np.asarray(ours[key], float) - theirs[key]).max() <= 2e-4, key


@pytest.mark.parametrize("fields", [{}, {"num_mel_bins": 40, "feature_size": 40, "padding_value": 1.0}])
@pytest.mark.parametrize("name", NAMES)
def test_batch(name: str, fields: dict[str, Any]) -> None:
    ours, theirs = both(name, **fields)
    options: dict[str, Any] = {"sampling_rate": 16_000, "return_tensors": "np"}
    for padding in (
        {"padding": True},
        {"padding": "max_length", "max_length": 128},
        {"padding": True, "truncation": True, "max_length": 60},
        {"padding": True, "pad_to_multiple_of": 16},
    ):
        assert_same(ours(CLIPS, **padding, **options), theirs(CLIPS, **padding, **options))
    for clip in CLIPS:
        assert_same(ours(clip, **options), theirs(clip, **options))


def test_without_normalisation() -> None:
    options: dict[str, Any] = {"sampling_rate": 16_000, "return_tensors": "np", "padding": True}
    ours, theirs = both("Speech2TextFeatureExtractor", do_ceptral_normalize=False)
    assert_same(ours(CLIPS, **options), theirs(CLIPS, **options))
    ours, theirs = both("Speech2TextFeatureExtractor", normalize_vars=False)
    assert_same(ours(CLIPS, **options), theirs(CLIPS, **options))
    ours, theirs = both("SeamlessM4TFeatureExtractor", stride=3)
    options |= {"pad_to_multiple_of": 3, "do_normalize_per_mel_bins": False}
    found, expected = ours(CLIPS, **options), theirs(CLIPS, **options)
    assert np.abs(found["input_features"] - expected["input_features"]).max() <= 2e-4
    # of three stacked frames, `transformers` takes the mask of the second, we that of the last
    assert (found["attention_mask"] <= expected["attention_mask"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_saved_extractor_is_exchanged(name: str, tmp_path: Path) -> None:
    ours, theirs = both(name, num_mel_bins=40, feature_size=40)
    theirs.save_pretrained(tmp_path / "theirs")
    read = dragoman.AutoFeatureExtractor.from_pretrained(tmp_path / "theirs")
    assert type(read) is type(ours)
    assert read.num_mel_bins == 40
    read.save_pretrained(tmp_path / "ours")
    back = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "ours")
    fields = theirs.to_dict()
    assert {key: value for key, value in back.to_dict().items() if key in fields} == fields


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_too_short_clips(name: str) -> None:
    ours, _ = both(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ours([np.zeros(4_000, np.float32), CLIPS[0]], sampling_rate=16_000, padding=True, return_tensors="np")
    assert np.isfinite(found["input_features"]).all()
    assert np.abs(found["input_features"][0]).max() < 0.01
    with pytest.raises(AudioError, match="shorter than one frame"):
        ours(np.zeros(399, np.float32), sampling_rate=16_000)
    with pytest.raises(ConfigError, match="num_mel_bins"):
        type(ours)(num_mel_bins=0)
    with pytest.raises(AudioError, match="Convert it"):
        ours(CLIPS, sampling_rate=8_000)


def test_frame_counts() -> None:
    for samples in 400, 559, 560, 16_000:
        assert len(filter_bank(np.zeros(samples, np.float32))) == frame_count(samples)
    assert samples_for(1) == 400
    assert frame_count(samples_for(7)) == 7
    assert frame_count(399) == 0


@pytest.mark.parametrize("name", NAMES)
def test_pad_equals_one_batch(name: str) -> None:
    """Features extracted one by one are padded to the same batch."""
    ours, _ = both(name)
    options: dict[str, Any] = {"sampling_rate": 16_000, "return_tensors": "np"}
    alone = [ours(clip, **options) for clip in CLIPS]
    joined = ours.pad([{key: value[0] for key, value in one.items()} for one in alone], return_tensors="np")
    assert joined["input_features"].shape[0] == len(CLIPS)
    for one, row, mask in zip(alone, joined["input_features"], joined["attention_mask"], strict=True):
        assert np.array_equal(row[: one["input_features"].shape[1]], one["input_features"][0])
        assert mask.sum() == one["attention_mask"].sum()


@pytest.mark.parametrize("name", [*NAMES, "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor"])
def test_shortest_waveform_and_frame_rate(name: str) -> None:
    """The smallest number of samples for one frame, and the frames per second."""
    extractor = getattr(dragoman, name)()
    axis = 2 if name.startswith("Whisper") else 1
    for steps in 2, 25:
        samples = extractor.samples_for(steps)
        for more, expected in (0, steps), (-1, steps - 1):
            clip = np.random.default_rng(0).standard_normal(samples + more).astype(np.float32) / 9
            options = {"sampling_rate": 16_000, "return_tensors": "np", "padding": False}
            found = extractor(clip, **options, **({} if "M4T" not in name else {"pad_to_multiple_of": None}))
            assert found[extractor.model_input_names[0]].shape[axis] == expected
    assert extractor.samples_for(101) - extractor.samples_for(1) == round(100 * 16_000 / extractor.inputs_per_second)
