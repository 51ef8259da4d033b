"""NeMo's log-mel features against `transformers` (PyTorch), and the extractors' files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import dragoman
from dragoman.errors import AudioError, ConfigError
from dragoman.testing import synthetic_speech

CLIPS = [synthetic_speech(seconds, seed=seed) for seed, seconds in enumerate((1.0, 0.73, 0.31))]
NAMES = "ParakeetFeatureExtractor", "CohereAsrFeatureExtractor"
CALL: dict[str, Any] = {"sampling_rate": 16_000, "return_tensors": "np"}


def both(name: str, **fields: Any) -> tuple[Any, Any]:
    fields |= {"dither": 0.0} if name.startswith("Cohere") else {}
    return getattr(dragoman, name)(**fields), getattr(transformers, name)(**fields)


def assert_same(ours: Any, theirs: Any) -> None:
    for key in ("input_features", "attention_mask"):
        assert ours[key].shape == theirs[key].shape
        assert np.abs(np.asarray(ours[key], float) - np.asarray(theirs[key], float)).max() <= 5e-4, key


@pytest.mark.parametrize("fields", [{}, {"feature_size": 40, "win_length": 333, "n_fft": 500, "hop_length": 100}])
@pytest.mark.parametrize("name", NAMES)
def test_batch(name: str, fields: dict[str, Any]) -> None:
    ours, theirs = both(name, **fields)
    for padding in (
        {},
        {"padding": "max_length", "max_length": 20_000},
        {"padding": True, "pad_to_multiple_of": 4_001},
    ):
        assert_same(ours(CLIPS, **padding, **CALL), theirs(CLIPS, **padding, **CALL))
    for clip in CLIPS:
        assert_same(ours(clip, **CALL), theirs(clip, **CALL))
    # `transformers` cuts the samples, and then takes means over the frames that there were before
    assert_same(ours(CLIPS, truncation=True, max_length=4_000, **CALL), theirs([c[:4_000] for c in CLIPS], **CALL))


def test_without_emphasis_and_with_whole_frames() -> None:
    ours, theirs = both(NAMES[0], preemphasis=None)
    clips = [CLIPS[0][:1600], CLIPS[0][:1759], CLIPS[0][:320]]
    assert_same(ours(clips, **CALL), theirs(clips, **CALL))


def test_dither_changes_silence_alone_and_is_the_same_in_a_batch() -> None:
    ours, theirs = dragoman.CohereAsrFeatureExtractor(), transformers.CohereAsrFeatureExtractor()
    found = ours([*CLIPS, np.zeros(8000, np.float32)], **CALL)
    assert np.isfinite(found["input_features"]).all()
    alone = ours(CLIPS[2], **CALL)["input_features"][0]
    assert np.array_equal(found["input_features"][2, : len(alone)], alone)
    # the noise is not the same, so only what is louder than it agrees
    loud = synthetic_speech(1.0, seed=5) + 0.01 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.abs(ours(loud, **CALL)["input_features"] - theirs(loud, **CALL)["input_features"]).max() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_saved_extractor_is_exchanged(name: str, tmp_path: Path) -> None:
    ours, theirs = both(name, feature_size=40)
    theirs.save_pretrained(tmp_path / "theirs")
    read = dragoman.AutoFeatureExtractor.from_pretrained(tmp_path / "theirs")
    assert type(read) is type(ours)
    read.save_pretrained(tmp_path / "ours")
    back = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "ours")
    fields = theirs.to_dict()
    assert {key: value for key, value in back.to_dict().items() if key in fields} == fields


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_computed_is_refused(name: str) -> None:
    ours, _ = both(name)
    with pytest.raises(AudioError, match="has 1 frames, which cannot be normalised"):
        ours(CLIPS[0][:319], **CALL)
    assert ours(CLIPS[0][:320], **CALL)["attention_mask"].tolist() == [[1, 1, 0]]
    for fields in ({"padding_value": 1.0}, {"padding_side": "left"}, {"win_length": 1000}):
        with pytest.raises(ConfigError, match="needs `padding_value` 0"):
            type(ours)(**fields)
