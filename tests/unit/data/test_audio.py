"""The audio of utterances: whole files, parts, archives; errors name the manifest's line."""

import zipfile

import numpy as np
import pytest
import soundfile

from dragoman import load_audio as load_file
from dragoman.data import Utterance, load_audio
from dragoman.data.audio import with_duration
from dragoman.errors import AudioError
from dragoman.testing import synthetic_speech


def utterance(audio, **fields):
    return Utterance(id="u", audio=str(audio), text="x", source="m.tsv:3", **fields)


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_a_whole_file_is_what_the_audio_reader_gives(clips, rate):
    assert np.array_equal(load_audio(utterance(clips / "c.wav"), rate), load_file(clips / "c.wav", sampling_rate=rate))


@pytest.mark.parametrize(("ending", "channels"), [("wav", 1), ("flac", 1), ("wav", 2), ("ogg", 1)])
def test_a_part_is_that_part_of_the_file(tmp_path, ending, channels):
    path = tmp_path / f"x.{ending}"
    speech = synthetic_speech(3.0)
    soundfile.write(path, np.stack([speech] * channels, axis=1), 16_000)
    whole = load_file(path)
    part = load_audio(utterance(path, offset=1.25, duration=0.5), 16_000)
    assert part.shape == (8_000,)
    assert np.array_equal(part, whole[20_000:28_000])
    assert np.array_equal(load_audio(utterance(path, offset=2.5), 16_000), whole[40_000:])
    assert np.array_equal(load_audio(utterance(path, duration=0.5), 16_000), whole[:8_000])
    assert len(load_audio(utterance(path, offset=2.5, duration=0.7), 16_000)) == 8_000  # rounded in the manifest


@pytest.mark.parametrize("fields", [{"offset": 4.0}, {"offset": 2.0, "duration": 3.0}, {"duration": 9.0}])
def test_a_part_beyond_the_end_is_an_error_with_its_line(tmp_path, fields):
    soundfile.write(tmp_path / "x.wav", synthetic_speech(3.0), 16_000)
    with pytest.raises(AudioError, match=r"^m\.tsv:3: .*x\.wav: lasts 3\.00 s, but the utterance u is from"):
        load_audio(utterance(tmp_path / "x.wav", **fields), 16_000)


def test_missing_and_broken_files_are_errors_with_their_line(clips):
    with pytest.raises(AudioError, match=r"^m\.tsv:3: .*there is no such file"):
        load_audio(utterance(clips / "none.wav"), 16_000)
    content = (clips / "e.wav").read_bytes()
    (clips / "e.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=r"^m\.tsv:3: .*is truncated"):
        load_audio(utterance(clips / "e.wav"), 16_000)


def test_a_file_in_an_archive_is_read_by_its_bytes(clips):
    with zipfile.ZipFile(clips / "all.zip", "w") as archive:  # stored, not compressed
        archive.write(clips / "c.wav", "c.wav")
    content, whole = (clips / "c.wav").read_bytes(), (clips / "all.zip").read_bytes()
    address = f"{clips}/all.zip:{whole.index(content)}:{len(content)}"
    assert np.array_equal(load_audio(utterance(address), 16_000), load_file(clips / "c.wav"))


def test_durations_come_from_headers_or_from_decoding(clips):
    assert with_duration(utterance(clips / "c.wav")).duration == pytest.approx(0.3)
    assert with_duration(utterance(clips / "c.wav", offset=0.1)).duration == pytest.approx(0.2)
    assert with_duration(utterance(clips / "c.wav", duration=5.0)).duration == 5.0
    with pytest.raises(AudioError, match="no such file"):
        with_duration(utterance(clips / "none.wav"))
