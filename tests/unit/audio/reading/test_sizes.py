"""Sizes in headers: too small, too large, or left open."""

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dragoman.audio.reading.damage import Damage
from dragoman.audio.reading.io import load_audio
from dragoman.audio.reading.ranges import ByteRanges
from dragoman.audio.reading.sizes import check_sizes
from dragoman.audio.reading.source import open_audio
from dragoman.errors import AudioError

RATE = 16_000
COUNT = 30_000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(COUNT)).clip(-1, 1).astype(np.float32)


def encoded(format: str, subtype: str | None = None) -> bytes:  # noqa: A002
    file = io.BytesIO()
    soundfile.write(file, NOISE, RATE, format=format, subtype=subtype)
    return file.getvalue()


def patched(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def with_size(format: str, size: int) -> bytes:  # noqa: A002
    """Return a file of 16-bit samples whose header gives another size of them in bytes."""
    data = encoded(format, "PCM_16")
    match format:
        case "WAV":
            return patched(data, data.index(b"data") + 4, struct.pack("<I", size))
        case "RF64":
            return patched(data, 28, struct.pack("<Q", size))
        case "AIFF":
            return patched(data, data.index(b"SSND") + 4, struct.pack(">I", size + 8))
        case "CAF":
            return patched(data, data.index(b"data\0") + 4, struct.pack(">q", size + 4 if size >= 0 else -1))
        case "W64":
            return patched(data, data.index(b"data") + 16, struct.pack("<Q", size + 24))
        case "AU":
            return patched(data, 8, struct.pack(">I", size))
        case _:
            return data.replace(b"sample_count -i %d" % COUNT, b"sample_count -i %d" % (size // 2))


def quiet(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_audio(data)


@pytest.mark.parametrize("format", ["WAV", "RF64", "AIFF", "CAF", "W64", "AU", "NIST"])
def test_a_size_that_is_too_small_loses_nothing(format: str) -> None:  # noqa: A002
    expected = quiet(encoded(format, "PCM_16"))
    assert len(expected) == COUNT
    for size in (COUNT, 2 * COUNT - 2_000, 20_000):
        np.testing.assert_array_equal(quiet(with_size(format, size)), expected)


@pytest.mark.parametrize("format", ["WAV", "RF64", "AIFF", "CAF", "W64", "AU", "NIST"])
@pytest.mark.parametrize("lost", [400, 2_000, COUNT])
def test_a_size_that_is_too_large_is_a_truncated_file(format: str, lost: int) -> None:  # noqa: A002
    data = encoded(format, "PCM_16")[:-lost]
    with pytest.raises(AudioError, match="is truncated"):
        load_audio(data)
    with pytest.warns(UserWarning, match=rf"{lost / 2 / RATE:.2f} s of it could not be read: it is truncated"):
        rest = load_audio(data, on_damage="skip")
    assert len(rest) == pytest.approx(COUNT - lost // 2, abs=2_048)  # a CAF has padding at its end


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST" + struct.pack("<I", 3_000) + b"INFO" + bytes(2_996),
        b"id3 " + struct.pack("<I", 2_000) + b"ID3" + bytes(1_997),
        b"ID3\x04" + b"x" * 3_000,
        b"TAG" + b"x" * 3_000,
        bytes(5_000),
        b"\x01" * 500,
    ],
)
@pytest.mark.parametrize("odd", [0, 1])
def test_what_follows_the_samples_is_not_audio(tail: bytes, odd: int) -> None:
    data = encoded("WAV", "PCM_U8")[: -1 if odd else None]
    data = patched(data, data.index(b"data") + 4, struct.pack("<I", COUNT - odd))
    for padding in (b"", b"\0") if odd else (b"",):
        assert len(quiet(data + padding + tail)) == COUNT - odd


def test_placeholders_for_unknown_sizes() -> None:
    for form, size in (("AU", 0xFFFF_FFFF), ("CAF", -1), ("WAV", 0xFFFF_FFFF)):
        assert len(quiet(with_size(form, size))) == COUNT


def test_bw64_is_rf64() -> None:
    assert len(quiet(b"BW64" + encoded("RF64", "PCM_16")[4:])) == COUNT


def test_a_recording_that_was_not_closed_can_be_read() -> None:
    with pytest.raises(AudioError, match="was not closed"):
        load_audio(with_size("WAV", 0))
    with pytest.warns(UserWarning, match="it has no samples according to its header"):
        assert len(load_audio(with_size("WAV", 0), on_damage="skip")) == COUNT


@pytest.mark.parametrize("stated", [lambda size: size % 2**32, lambda _: 0xFFFF_FFFF])
def test_more_than_4_gib_in_a_wav(tmp_path: Path, stated: Callable[[int], int]) -> None:
    """The field has 32 bits. The file is a hole, which takes no space on disk."""
    path, size = tmp_path / "long.wav", 2**32 + 1_000_000
    with path.open("wb") as file:
        file.write(patched(encoded("WAV", "PCM_16")[:44], 40, struct.pack("<I", stated(size))))
        file.truncate(44 + size)
    with open_audio(path) as audio:
        pieces = check_sizes(audio, 0, "wav", Damage())
        with soundfile.SoundFile(ByteRanges(audio, pieces)) as sound:
            assert sound.frames == size // 2


def test_an_mp3_that_lacks_its_last_frames() -> None:
    data = encoded("MP3")
    for lost in (10, 200, 900):
        with pytest.raises(AudioError, match="is truncated: its header gives"):
            load_audio(data[:-lost])
        with pytest.warns(UserWarning, match=r"could not be read: it is truncated"):
            assert COUNT - 3 * 1_152 < len(load_audio(data[:-lost], on_damage="skip")) < COUNT + 2 * 1_152
    tagged = data + b"TAG" + bytes(125)
    assert len(quiet(tagged)) == len(quiet(data))
