import io

import numpy as np
import pytest
import soundfile

from dragoman.audio.reading.io import load_audio
from dragoman.audio.reading.mpeg import frame_length, skip_id3, table_bytes
from dragoman.audio.reading.source import open_audio
from dragoman.errors import AudioError

RATE = 16_000


def mp3(seconds: float, loudness: float, *, mode: str = "VARIABLE", rate: int = RATE, channels: int = 1) -> bytes:
    samples = loudness * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1), rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    return file.getvalue()


def without_table(data: bytes) -> bytes:
    assert table_bytes(data[:64]) is not None
    return data[frame_length(data[:4]) :]


def samples_in(seconds: float) -> int:
    return round(seconds * RATE)


def test_frames_are_contiguous() -> None:
    for mode in ("CONSTANT", "VARIABLE"):
        for rate in (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
            data = mp3(2, 0.1, mode=mode, rate=rate)
            offset = count = 0
            while offset < len(data):
                length = frame_length(data[offset : offset + 4])
                assert length, (mode, rate, offset)
                offset, count = offset + length, count + 1
            assert offset == len(data)
            assert count * (576 if rate < 32_000 else 1152) >= 2 * rate


@pytest.mark.parametrize(
    ("header", "length"),
    [  # from the formulas of the standard, by hand
        (b"\xff\xfb\x90\x00", 417),  # MPEG 1, layer III, 128 kbit/s, 44.1 kHz: 144 * 128000 / 44100
        (b"\xff\xfb\x92\x00", 418),  # with padding
        (b"\xff\xfd\xa4\x00", 576),  # layer II, 192 kbit/s, 48 kHz: 144 * 192000 / 48000
        (b"\xff\xff\x18\x00", 48),  # layer I, 32 kbit/s, 32 kHz: 12 * 32000 / 32000 * 4
        (b"\xff\xf3\x40\x00", 104),  # MPEG 2, layer III, 32 kbit/s, 22.05 kHz: 72 * 32000 / 22050
        (b"\xff\xf5\x40\x00", 208),  # MPEG 2, layer II: 144 * 32000 / 22050
        (b"\xff\xe3\x40\x00", 208),  # MPEG 2.5, layer III, 11.025 kHz
        (b"\xff\xeb\x90\x00", 0),  # reserved version
        (b"\xff\xf9\x90\x00", 0),  # layer 0 is AAC
        (b"\xff\xfb\xf0\x00", 0),  # bitrate 15
        (b"\xff\xfb\x00\x00", 0),  # free format
        (b"\xff\xfb\x9c\x00", 0),  # rate 3
        (b"\xff\xfb", 0),
    ],
)
def test_frame_length(header: bytes, length: int) -> None:
    assert frame_length(header) == length


@pytest.mark.parametrize("parts", [("quiet", "loud"), ("loud", "quiet"), ("loud", "loud")])
def test_variable_bitrate_without_a_table_is_read_to_its_end(parts: tuple[str, str]) -> None:
    """libsndfile estimates the length from the first frame, and stops there."""
    samples = np.concatenate(
        [(0.0 if part == "quiet" else 0.3) * np.random.default_rng(1).standard_normal(10 * RATE) for part in parts]
    )
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1), RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    loaded = load_audio(without_table(file.getvalue()))
    assert 0 <= len(loaded) - samples_in(20) < 3 * 1152  # the encoder's padding is not removed without the table
    loud = np.abs(loaded[-5 * RATE : -RATE]).max()
    assert loud > 0.3 if parts[1] == "loud" else loud < 0.05


def test_joined_files_are_read_to_the_end_of_the_last() -> None:
    joined = mp3(3, 0.1) + mp3(4, 0.2) + mp3(5, 0.1)
    assert 0 <= len(load_audio(joined)) - samples_in(12) < 9 * 1152


def test_joined_files_of_different_formats_are_all_read() -> None:
    joined = mp3(3, 0.1) + mp3(4, 0.1, rate=44_100) + mp3(5, 0.1, channels=2)
    assert 0 <= len(load_audio(joined)) - samples_in(12) < 9 * 1152


@pytest.mark.parametrize(
    "junk",
    [
        bytes(3_000),
        b"TAG" + b"x" * 125,
        b"ID3\x03\0\0\0\0\x0f\x50" + b"\xff\xfb\x90\x00" * 500,  # a tag full of what looks like frames
        np.random.default_rng(0).bytes(20_000),
        b"\xff" * 5_000,
    ],
)
def test_junk_anywhere_is_skipped(junk: bytes) -> None:
    one, two = without_table(mp3(3, 0.1)), without_table(mp3(4, 0.1))
    for data in (one + two, one + junk + two, one + two + junk, one + junk + two + junk):
        assert -2 * 1152 <= len(load_audio(data)) - samples_in(7) < 6 * 1152


def test_leading_junk_needs_the_file_extension(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "clip.mp3"
    path.write_bytes(bytes(500) + without_table(mp3(3, 0.1)))
    assert 0 <= len(load_audio(path)) - samples_in(3) < 3 * 1152
    path.write_text("not sound at all\n" * 100)
    with pytest.raises(AudioError, match="no complete MP3 frame"):
        load_audio(path)


def test_the_last_frame_may_be_incomplete_without_a_table() -> None:
    data = without_table(mp3(3, 0.1))
    assert samples_in(3) - 1152 <= len(load_audio(data[:-20])) < len(load_audio(data))


def test_any_number_of_id3_tags_is_skipped() -> None:
    sound = mp3(1, 0.1)
    tag = b"ID3\x04\0\x10\0\0\x01\x00" + bytes(128) + b"3DI\x04\0\x10\0\0\x01\x00"  # with a footer
    with open_audio(tag + tag + sound) as audio:
        assert skip_id3(audio) == 2 * len(tag)
    np.testing.assert_array_equal(load_audio(tag + tag + sound), load_audio(sound))


def test_too_many_false_headers_are_refused() -> None:
    with pytest.raises(AudioError, match=r"too little of it is MP3|no complete MP3 frame"):
        load_audio(b"\xff\xfb\x90\x00" * 200_000 + bytes(10))
