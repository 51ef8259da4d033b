import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from dragoman.audio.reading.io import load_audio, stream_audio
from dragoman.errors import AudioError, MissingDependencyError


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (samples, channels) if channels > 1 else (samples,)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).clip(-1, 1).astype(np.float32)


def encode(samples: np.ndarray, rate: int, format: str = "WAV", **options: str) -> bytes:  # noqa: A002
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, **options)
    return file.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"])
@pytest.mark.parametrize("format", ["WAV", "AU"])
def test_lossless_samples_equal_soundfiles(subtype: str, format: str) -> None:  # noqa: A002
    if format == "AU" and subtype == "PCM_U8":
        subtype = "PCM_S8"
    data = encode(noise(3000), 16_000, format, subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_array_equal(load_audio(data), expected)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("FLAC", {}),
        ("OGG", {"subtype": "VORBIS"}),
        ("OGG", {"subtype": "OPUS"}),
        ("MP3", {}),
        ("AIFF", {}),
        ("CAF", {}),
        ("W64", {}),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_formats_agree_with_soundfile(format: str, options: dict[str, str], rate: int) -> None:  # noqa: A002
    data = encode(tone(1.5, rate), rate, format, **options)
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    expected = soxr.resample(samples, rate, 16_000) if rate != 16_000 else samples
    # soundfile seeks before it reads, after which mpg123 rounds the last bit differently
    np.testing.assert_allclose(load_audio(data), expected, rtol=0, atol=1e-6 if format == "MP3" else 0)


def test_a_long_mp3_is_continuous() -> None:
    """soundfile seeks after every block, which MP3 does not survive: a frame borrows bits from those before it."""
    data = encode(noise(16_000 * 40), 16_000, "MP3")
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_allclose(load_audio(data), samples, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [1_000, 7_350, 8_000, 11_025, 15_999, 22_050, 44_100, 48_000, 96_000, 768_000])
def test_resampling_keeps_duration_and_pitch(rate: int) -> None:
    for samples in (rate // 10, rate // 7 + 1, 3 * rate + 1):
        loaded = load_audio(encode(noise(samples), rate))
        assert len(loaded) == (2 * samples * 16_000 + rate) // (2 * rate)
    loaded = load_audio(encode(tone(1.0, rate, hertz=200), rate))
    assert np.argmax(np.abs(np.fft.rfft(loaded))) == 200
    assert loaded.dtype == np.float32


def test_resampling_keeps_aliases_100_db_down() -> None:
    loaded = load_audio(encode(0.9 / 0.3 * tone(2.0, 48_000, hertz=11_000), 48_000, subtype="FLOAT"))
    assert 20 * np.log10(np.abs(loaded[2_000:-2_000]).max() / 0.9) < -100


def test_channels_are_averaged() -> None:
    samples = noise(8_000, channels=8)
    loaded = load_audio(encode(samples, 8_000, subtype="FLOAT"), sampling_rate=8_000)
    np.testing.assert_allclose(loaded, samples.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("block_seconds", [0.0001, 0.1, 1.0, 7.0])
def test_streaming_gives_the_same_samples(rate: int, block_seconds: float) -> None:
    samples = noise(5 * rate + 13, channels=2) if block_seconds > 0.001 else noise(rate // 8, channels=2)
    data = encode(samples, rate)
    blocks = list(stream_audio(data, block_seconds=block_seconds))
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(data))
    assert {len(block) for block in blocks[:-1]} <= {max(1, round(block_seconds * 16_000))}
    assert 0 < len(blocks[-1]) <= max(1, round(block_seconds * 16_000))


def test_paths_bytes_files_and_pipes_give_the_same_samples(tmp_path: Path) -> None:
    data = encode(noise(20_000), 16_000, "FLAC")
    path = tmp_path / "naïve clip.txt"  # the content decides, not the name
    path.write_bytes(data)
    expected = load_audio(data)
    for source in (path, str(path), bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(load_audio(source), expected)
    with path.open("rb") as file:
        file.seek(100)
        np.testing.assert_array_equal(load_audio(file), expected)
        assert not file.closed
    code = "import sys; from dragoman.audio.reading.io import load_audio; print(len(load_audio(sys.stdin.buffer)))"
    piped = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert int(piped.stdout) == len(expected)


def test_wav_of_unknown_length_is_read_to_its_end() -> None:
    data = encode(noise(5_000), 16_000)
    for size in (0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000):  # as FFmpeg, arecord and sox write it into a pipe
        assert (
            len(load_audio(data[:4] + struct.pack("<I", size) + data[8:40] + struct.pack("<I", size) + data[44:]))
            == 5_000
        )


def test_flac_of_unknown_length_is_read_to_its_end() -> None:
    data = bytearray(encode(noise(50_000), 16_000, "FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    assert len(load_audio(bytes(data))) == 50_000


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_joined_ogg_streams_are_all_read(subtype: str) -> None:
    first = encode(tone(1.0, 16_000, hertz=300), 16_000, "OGG", subtype=subtype)
    second = encode(tone(2.0, 16_000, hertz=700), 16_000, "OGG", subtype=subtype)
    loaded = load_audio(first + second)
    assert len(loaded) == 48_000
    assert np.argmax(np.abs(np.fft.rfft(loaded[16_000:]))) == 1_400  # 700 Hz in 2 s


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Two hours are 460 MB of samples."""
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(_wav(b"", size=2 * 3600 * 16_000 * 2))
        file.truncate(44 + 2 * 3600 * 16_000 * 2)  # a hole: silence that takes no space on disk
    code = (
        "import resource, sys; from dragoman.audio.reading.io import stream_audio\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "total = sum(map(len, stream_audio(sys.argv[1])))\n"
        "print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True)
    total, grown_kib = map(int, run.stdout.split())
    assert total == 2 * 3600 * 16_000
    assert grown_kib < 64 * 1024


def test_max_seconds_refuses_longer_files() -> None:
    data = encode(noise(16_000 * 3), 16_000)
    assert len(load_audio(data, max_seconds=3)) == 48_000
    with pytest.raises(AudioError, match=r"longer than the limit of 2\.5 s"):
        load_audio(data, max_seconds=2.5)


def _wav(data: bytes = b"", **changes: int) -> bytes:
    """A WAV by hand, so that each field can lie."""
    rate, channels, bits = changes.get("rate", 16_000), changes.get("channels", 1), changes.get("bits", 16)
    tag = changes.get("tag", 1)
    align = changes.get("align", max(1, channels * bits // 8)) & 0xFFFF
    fmt = struct.pack("<HHIIHH", tag, channels, rate, min(rate * align, 2**32 - 1), align, bits)
    size = changes.get("size", len(data))
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", size)
        + data
    )


BAD = {
    "empty": (b"", "is empty"),
    "no samples": (_wav(), "has no samples"),
    "not closed": (_wav(bytes(1000), size=0), "was not closed"),
    "text": (b"Dear Sir or Madam,\r\n" * 20, "looks like text"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "looks like a PNG image"),
    "zip": (b"PK\x03\x04" + bytes(50), "looks like a ZIP archive"),
    "zeros": (bytes(500), "begins with zeros"),
    "binary": (bytes(range(1, 9)) * 9, "begins with the bytes 01 02 03"),
    "id3 only": (b"ID3\x04\0\0\0\0\0\x05hello", "nothing after its ID3 tag"),
    "cut id3": (b"ID3\x04\0\0\0\0\x7f\x05hello", "ends within its ID3 tag"),
    "midi": (b"MThd" + bytes(50), "MIDI"),
    "cut wav": (_wav(bytes(1000), size=30_000), "header gives 30000 bytes of samples, but there are only 1000"),
    "cut flac": (encode(noise(30_000), 16_000, "FLAC")[:-9_000], "damaged or truncated"),
    "cut ogg": (encode(noise(30_000), 16_000, "OGG")[:-900], "last OGG page is incomplete"),
    "cut mp3": (encode(noise(30_000), 16_000, "MP3")[:-2_000], "header gives"),
    "cut aiff": (encode(noise(30_000), 16_000, "AIFF")[:-9_000], "header gives"),
    "cut w64": (encode(noise(30_000), 16_000, "W64")[:-9_000], "header gives"),
    "rate 1": (_wav(bytes(1000), rate=1), "sampling rate of 1 Hz"),
    "rate 2^31-1": (_wav(bytes(1000), rate=2**31 - 1), "sampling rate of 2147483647 Hz"),
    "no channels": (_wav(bytes(1000), channels=0), "malformed"),
    "65 channels": (_wav(bytes(1300), channels=65), "65 channels"),
    "nan": (encode(np.array([0, 0, np.nan], np.float32), 16_000, subtype="FLOAT"), r"sample 2 \(at 0\.000 s\) is nan"),
    "inf": (encode(np.array([0, np.inf], np.float32), 16_000, subtype="FLOAT"), "sample 1 .* is inf"),
    "level": (encode(np.full(9, 2e4, np.float32), 16_000, subtype="FLOAT"), "reach 20000"),
    "overflow": (encode(np.full((9, 2), 3e38, np.float32), 16_000, subtype="FLOAT"), "inf|3e"),
    "two wavs": (encode(noise(9), 16_000) * 2, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_one_line_with_name_cause_and_remedy(name: str, tmp_path: Path) -> None:
    data, cause = BAD[name]
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=cause) as caught:
        load_audio(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message.split(". ")) > 1  # the remedy is a sentence of its own


def test_unusable_paths_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, cause in {
        tmp_path: "is a folder",
        tmp_path / "missing.wav": "no such file",
        tmp_path / "missing\n.wav": r"missing\\n.wav'?: there is no such file",
        tmp_path / "fifo": "is a pipe",
        "/dev/null": "device",
        "a\0b.wav": "cannot be opened",
        "x" * 5_000: "cannot be opened",
        "": "no such file",
    }.items():
        with pytest.raises(AudioError, match=cause) as caught:
            load_audio(path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(encode(noise(9), 16_000))
    path.chmod(0)
    with pytest.raises(AudioError, match="cannot be read"):
        load_audio(path)


def test_a_source_without_seek_is_copied() -> None:
    class Response:
        def __init__(self, data: bytes) -> None:
            self.read = io.BytesIO(data).read

    assert len(load_audio(Response(encode(noise(99), 16_000)))) == 99  # type: ignore[arg-type]


def test_wrong_kinds_of_source() -> None:
    with pytest.raises(AudioError, match="as_waveform"):
        load_audio(noise(9))  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="binary mode"):
        load_audio(io.StringIO("abc"))  # type: ignore[arg-type]
    closed = io.BytesIO(b"abc")
    closed.close()
    with pytest.raises(AudioError, match="closed"):
        load_audio(closed)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampling_rate": 0},
        {"sampling_rate": 16_000.0},
        {"block_seconds": 0},
        {"max_seconds": 0},
        {"max_seconds": "x"},
        {"max_seconds": float("nan")},
    ],
)
def test_wrong_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(AudioError, match="must be"):
        list(stream_audio(encode(noise(9), 16_000), **arguments))  # type: ignore[arg-type]


# --- what only FFmpeg reads -----------------------------------------------------------------------------------------


def encode_av(container: str, codec: str, rate: int, layout: str) -> bytes:
    av = pytest.importorskip("av", reason="needs the extra media")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = layout
        samples = np.stack([tone(4.0, rate)] * (2 if layout == "stereo" else 1))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(part))
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout"),
    [
        ("mp4", "aac", 44_100, "stereo"),
        ("webm", "libopus", 48_000, "mono"),
        ("adts", "aac", 16_000, "mono"),
        ("avi", "pcm_s16le", 48_000, "stereo"),
    ],
)
def test_media_containers(container: str, codec: str, rate: int, layout: str) -> None:
    data = encode_av(container, codec, rate, layout)
    loaded = load_audio(data)
    assert 4.0 <= len(loaded) / 16_000 < 4.2  # AAC pads to whole frames
    assert np.abs(loaded[16_000:48_000]).max() == pytest.approx(0.3, rel=0.05)
    assert np.argmax(np.abs(np.fft.rfft(loaded[16_000:48_000]))) == 880  # 440 Hz in 2 s
    np.testing.assert_array_equal(np.concatenate(list(stream_audio(data, block_seconds=0.3))), loaded)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("adts", "aac")])
def test_truncated_media_files(container: str, codec: str) -> None:
    data = encode_av(container, codec, 48_000, "mono")
    with pytest.raises(AudioError, match="truncated"):
        load_audio(data[: len(data) // 2])


def test_playlists_are_not_followed(tmp_path: Path) -> None:
    """FFmpeg, left to guess, would open what a playlist names."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encode(noise(16_000), 16_000))
    for text in (f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n", f"ffconcat version 1.0\nfile '{secret}'\n"):
        (tmp_path / "list.m3u8").write_text(text)
        with pytest.raises(AudioError, match="looks like text"):
            load_audio(tmp_path / "list.m3u8")


def test_missing_pyav_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[media\]"):
        load_audio(b"\0\0\0\x20ftypM4A " + bytes(100))
