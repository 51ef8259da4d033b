"""Items and batches: labels, filters, what cannot be read, augmentation."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from dragoman import AutoTokenizer, ConfigError, DataError, Wav2Vec2FeatureExtractor
from dragoman.data import Limits, Utterance, filtered, read_manifest
from dragoman.processing.processor import SpeechProcessor
from dragoman.training.augmentation import Augmentation, at_speed, with_noise
from dragoman.training.batches import Preparation

RATE = 16_000


def preparation(folder: Path, *, start: int = 2, end: int = 3, positions: int = 64, **rest: Any) -> Preparation:
    """A preparation with the ids of a model."""
    ids = {"decoder_start_token_id": start, "eos_token_id": end}
    decoder = SimpleNamespace(text_spec=lambda: SimpleNamespace(num_positions=positions))
    config = SimpleNamespace(special_id=ids.get, decoder=decoder)
    processor = SpeechProcessor(Wav2Vec2FeatureExtractor(), AutoTokenizer.from_pretrained(folder))
    return Preparation(processor, config, **rest)


def everything(utterances: Any) -> Any:
    return list(utterances), []


def test_labels_end_with_the_end_token_and_do_not_begin_with_the_start(checkpoints: tuple[Path, Path]) -> None:
    bert = preparation(checkpoints[1])
    assert bert.labels("ab") == [4, 31, 3]  # the tokenizer writes both ends
    assert preparation(checkpoints[1], start=2, end=9).labels("ab") == [4, 31, 3, 9]  # one that writes no end of ours
    assert preparation(checkpoints[1], start=7).labels("ab") == [2, 4, 31, 3]  # a first token that is no start


def test_a_batch_is_padded_and_masked(checkpoints: tuple[Path, Path], manifest: Path) -> None:
    ready = preparation(checkpoints[1])
    items = ready.items("x", read_manifest(manifest)[:4], everything, threads=2)
    batch = ready.batch(items)
    lengths = batch.arrays["attention_mask"].sum(1)
    assert lengths.tolist() == [round(item.seconds * RATE) for item in items]
    assert batch.seconds == pytest.approx(sum(lengths) / RATE)
    assert batch.padded == pytest.approx(4 * max(lengths) / RATE)
    assert [row[row != -100].tolist() for row in batch.arrays["labels"]] == [item.labels for item in items]
    assert batch.arrays["input_values"].dtype == np.float32


def test_augmentation_follows_seed_epoch_and_item(checkpoints: tuple[Path, Path], manifest: Path) -> None:
    change = Augmentation(speeds=(0.9, 1.1), noise_probability=0.5)

    def values(seed: int, epoch: int | None, places: list[int]) -> Any:
        ready = preparation(checkpoints[1], augmentation=change, seed=seed)
        items = ready.items("x", read_manifest(manifest)[:2], everything, threads=0)
        return ready.batch([items[place] for place in places], epoch, places).arrays["input_values"]

    np.testing.assert_array_equal(values(1, 0, [0, 1])[1], values(1, 0, [1, 0])[0])
    plain = values(1, None, [0, 1])
    drawn = [values(seed, epoch, [0, 1]) for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 2), (3, 1))]
    assert len({array.tobytes() for array in drawn}) > 2
    assert all(array.shape != plain.shape or not np.array_equal(array, plain) for array in drawn)


def test_what_is_left_out_is_told(checkpoints: tuple[Path, Path], manifest: Path, caplog: Any) -> None:
    ready = preparation(checkpoints[1], positions=5)
    limits = Limits(min_seconds=0.25, max_seconds=10.0)
    with caplog.at_level(logging.WARNING, "dragoman"):
        items = ready.items("set", read_manifest(manifest), lambda some: filtered(some, limits), threads=1)
    assert items
    assert all(item.seconds >= 0.25 and len(item.labels) <= 5 for item in items)
    assert "too short" in caplog.text
    assert "too many tokens" in caplog.text
    with pytest.raises(ConfigError, match="no item is left"):
        ready.items("set", read_manifest(manifest), lambda some: filtered(some, Limits(min_seconds=9)), threads=1)


def test_unknown_characters_are_told(checkpoints: tuple[Path, Path], manifest: Path, caplog: Any) -> None:
    good = read_manifest(manifest)[0]
    odd = Utterance(id="o", audio=good.audio, text="ж ж")
    with caplog.at_level(logging.WARNING, "dragoman"):
        preparation(checkpoints[1]).items("set", [odd], everything, threads=1)
    assert "unknown to the tokenizer" in caplog.text


def test_too_many_unreadable_recordings_are_an_error(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(1600, np.float32), RATE)
        rows.append(Utterance(id=str(number), audio=str(tmp_path / f"{number}.wav"), text="a", source=f"m:{number}"))
    (tmp_path / "7.wav").write_bytes(b"not audio")
    ready = preparation(checkpoints[1])
    assert len(ready.items("set", rows, everything, threads=2)) == 39
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(b"not audio")
    with pytest.raises(DataError, match="4 of 40 items cannot be used"):
        ready.items("set", rows, everything, threads=2)


def test_a_recording_that_goes_away_is_left_out_of_its_batch(
    checkpoints: tuple[Path, Path], tmp_path: Path, caplog: Any
) -> None:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600, np.float32), RATE)
    lines = [json.dumps({"audio": f"{name}.wav", "text": name}) for name in "ab"]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    ready = preparation(checkpoints[1])
    items = ready.items("set", read_manifest(tmp_path / "m.jsonl"), everything, threads=1)
    (tmp_path / "a.wav").unlink()
    with caplog.at_level(logging.WARNING, "dragoman"):
        batch = ready.batch(items)
    assert [item.utterance.text for item in batch.items] == ["b"]
    assert len(batch.arrays["labels"]) == 1
    assert "a.wav" in caplog.text
    (tmp_path / "b.wav").unlink()
    assert ready.batch(items).arrays == {}


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.25])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    fast = at_speed(tone, RATE, factor)
    assert len(fast) == pytest.approx(RATE / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast))))
    assert np.argmax(spectrum) * RATE / len(fast) == pytest.approx(440 * factor, abs=2)


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_noise_has_the_power_that_was_asked_for(snr: float) -> None:
    speech = np.sin(np.arange(50_000) / 7).astype(np.float32)
    noise = with_noise(speech, snr, np.random.default_rng(0)) - speech
    measured = 10 * np.log10(np.mean(speech**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr, abs=0.1)
    assert not with_noise(np.zeros(10, np.float32), snr, np.random.default_rng(0)).any()
