"""Media files as they are found: late audio, holes, several tracks, damage, and the containers beside MP4."""

import tempfile
import warnings
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.audio.reading.io import load_audio, stream_audio
from dragoman.errors import AudioError

DIALECTS = {"m2ts": ("mpegts", {"mpegts_m2ts_mode": "1"})}  # containers that are others with an option


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def media_file(
    container: str,
    codec: str,
    tracks: Iterable[np.ndarray],
    *,
    rate: int = 48_000,
    delay: float = 0.0,
    hole: tuple[float, float] | None = None,
    picture: float = 0.0,
    picture_codec: str = "mpeg4",
    languages: Iterable[str] = (),
    default: int = 0,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Write a file.

    Args:
        container: FFmpeg's name.
        codec: Of the audio.
        tracks: Mono samples of each audio track.
        rate: Their sampling rate.
        delay: Seconds by which all audio begins after the picture.
        hole: Seconds of audio before a hole in the time stamps, and seconds of the hole.
        picture: Seconds of video.
        picture_codec: Of the video.
        languages: Of the tracks.
        default: Index of the default track.
        bit_rate: Of the audio.
        options: Of the container.
    """
    av = pytest.importorskip("av", reason="needs the extra media")
    packets = []
    name, dialect = DIALECTS.get(container, (container, {}))
    with tempfile.TemporaryDirectory() as folder:
        with av.open(f"{folder}/file", "w", format=name, options={**dialect, **(options or {})}) as output:
            video = output.add_stream(picture_codec, rate=10) if picture else None
            streams = []
            tracks, languages = list(tracks), list(languages)
            for index in range(len(tracks)):
                stream = output.add_stream(codec, rate=rate)
                stream.layout = "mono"
                if bit_rate:
                    stream.bit_rate = bit_rate
                if len(tracks) > 1:
                    stream.disposition = av.stream.Disposition.default if index == default else 0
                if languages:
                    stream.metadata["language"] = languages[index]
                streams.append(stream)
            if video is not None:
                video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for stream, samples in zip(streams, tracks, strict=True):
                packets += _audio_packets(av, stream, samples, rate, delay, hole)
            if video is not None:
                packets += _video_packets(av, video, picture)
            packets = [packet for packet in packets if packet.dts is not None]
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                output.mux(packet)
        return Path(folder, "file").read_bytes()


def _audio_packets(av: Any, stream: Any, samples: np.ndarray, rate: int, delay: float, hole: Any) -> list[Any]:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate, frame_size=size)
    packets, done = [], 0
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        late = delay + (hole[1] if hole and done >= hole[0] * rate else 0)
        part.pts, part.time_base = done + round(late * rate), Fraction(1, rate)
        done += part.samples
        packets += stream.encode(part)
    return packets + stream.encode(None)


def _video_packets(av: Any, stream: Any, seconds: float) -> list[Any]:
    packets = []
    for index in range(round(seconds * 10)):
        frame = av.VideoFrame.from_ndarray(np.full((96, 64), 7 * index % 255, np.uint8), format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 10)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


TIMED = [
    ("mp4", "aac", {}),
    ("mov", "alac", {}),
    ("3gp", "aac", {}),
    ("matroska", "aac", {}),
    ("webm", "libopus", {"picture_codec": "libvpx"}),
    ("asf", "wmav2", {"rate": 44_100, "bit_rate": 64_000}),
    ("mpegts", "aac", {}),
    ("m2ts", "libmp3lame", {}),
    ("mpeg", "mp2", {}),
    ("flv", "aac", {"rate": 44_100, "picture_codec": "flv"}),
]


def begins(samples: np.ndarray) -> float:
    """Return where sound begins, in seconds."""
    return int(np.argmax(np.abs(samples) > 0.1)) / 16_000


def ends(samples: np.ndarray) -> float:
    return (len(samples) - int(np.argmax(np.abs(samples[::-1]) > 0.1))) / 16_000


def quiet(data: bytes, **options: Any) -> np.ndarray:
    """Read a file that must cause no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_audio(data, **options)


@pytest.mark.parametrize(("container", "codec", "options"), TIMED)
def test_audio_that_begins_after_the_picture_keeps_its_place(container: str, codec: str, options: dict) -> None:
    rate = options.get("rate", 48_000)
    data = media_file(container, codec, [tone(4, rate)], delay=5.0, picture=12.0, **options)
    loaded = quiet(data)
    assert begins(loaded) == pytest.approx(5.0, abs=0.1)
    assert ends(loaded) == pytest.approx(9.0, abs=0.1)
    np.testing.assert_array_equal(np.concatenate(list(stream_audio(data, block_seconds=0.7))), loaded)


@pytest.mark.parametrize(("container", "codec", "options"), [*TIMED, ("ipod", "aac", {}), ("ogg", "flac", {})])
def test_a_hole_in_the_time_stamps_is_silence(container: str, codec: str, options: dict) -> None:
    rate = options.get("rate", 48_000)
    data = media_file(container, codec, [tone(4, rate)], hole=(2.0, 3.0), **options)
    loaded = quiet(data)
    assert ends(loaded) == pytest.approx(7.0, abs=0.15)
    assert np.abs(loaded[int(2.2 * 16_000) : int(4.8 * 16_000)]).max() < 0.01
    assert np.abs(loaded[int(5.2 * 16_000) : int(6.8 * 16_000)]).max() > 0.25


@pytest.mark.parametrize(
    ("container", "codec", "options"), [*TIMED, ("avi", "libmp3lame", {}), ("avi", "pcm_s16le", {})]
)
def test_a_picture_that_lasts_longer_is_no_truncated_audio(container: str, codec: str, options: dict) -> None:
    data = media_file(container, codec, [tone(4, options.get("rate", 48_000))], picture=20.0, **options)
    assert len(quiet(data)) / 16_000 == pytest.approx(4.0, abs=0.1)


def test_the_start_of_an_avi_stream_counts() -> None:
    data = bytearray(media_file("avi", "pcm_s16le", [tone(4, 48_000)], picture=12.0))
    header = data.find(b"auds")
    data[header + 28 : header + 32] = (5 * 48_000).to_bytes(4, "little")  # dwStart
    assert begins(quiet(bytes(data))) == pytest.approx(5.0, abs=0.05)


@pytest.mark.parametrize("options", [{"hole": (2.0, 3.0)}, {"delay": 5.0, "picture": 12.0}])
def test_an_avi_whose_pauses_are_empty_chunks_is_read(options: dict) -> None:
    """FFmpeg writes them and passes them over; the stream then seems shorter than its header says."""
    loaded = quiet(media_file("avi", "libmp3lame", [tone(4, 48_000)], **options))
    assert len(loaded) / 16_000 == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        *TIMED,
        ("wv", "wavpack", {}),
        ("ac3", "ac3", {}),
        ("eac3", "eac3", {}),
        ("rm", "ac3", {}),
        ("rm", "real_144", {"rate": 8_000}),
        ("tta", "tta", {}),
        ("ogv", "flac", {"picture": 4.0, "picture_codec": "libvpx"}),
        ("ogg", "flac", {}),
        ("caf", "alac", {}),
        ("wav", "libmp3lame", {}),
        ("wav", "g726", {"rate": 8_000}),
        ("wav", "wmav2", {"rate": 44_100, "bit_rate": 64_000}),
        ("wav", "ac3", {}),
        ("w64", "libmp3lame", {}),
        ("avi", "pcm_s16le", {}),
    ],
)
def test_containers_and_codecs(container: str, codec: str, options: dict) -> None:
    data = media_file(container, codec, [tone(4, options.get("rate", 48_000))], **options)
    loaded = quiet(data)
    assert len(loaded) / 16_000 == pytest.approx(4.0, abs=0.1)
    middle = loaded[16_000:48_000]
    assert np.abs(middle).max() == pytest.approx(0.3, rel=0.3)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(880, abs=2)  # 440 Hz in 2 s


# --- tracks -----------------------------------------------------------------------------------------------------------


def two_tracks(container: str, default: int = 0) -> bytes:
    tracks = [tone(2, 48_000, hertz=300), tone(2, 48_000, hertz=700)]
    return media_file(container, "aac", tracks, languages=["eng", "deu"], default=default)


def hertz(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples[8_000:24_000]))))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("default", [0, 1])
def test_the_default_track_is_read_and_the_others_are_mentioned(container: str, default: int) -> None:
    says = rf"has 2 audio tracks \(1 eng, 2 deu\); {default + 1} is used"
    with pytest.warns(UserWarning, match=says) as caught:
        loaded = load_audio(two_tracks(container, default))
    assert len(caught) == 1
    assert hertz(loaded) == pytest.approx((300, 700)[default], abs=3)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("track", [1, 2])
def test_a_track_is_chosen(container: str, track: int) -> None:
    assert hertz(quiet(two_tracks(container), audio_track=track)) == pytest.approx((300, 700)[track - 1], abs=3)


def test_tracks_that_there_are_not() -> None:
    with pytest.raises(AudioError, match=r"has 2 audio tracks \(1 eng, 2 deu\), but `audio_track` is 3"):
        load_audio(two_tracks("mp4"), audio_track=3)
    for track in (0, -1, 1.0, "1"):
        with pytest.raises(AudioError, match="`audio_track` must be a number from 1 up or None"):
            load_audio(two_tracks("mp4"), audio_track=track)  # type: ignore[arg-type]


# --- truncation and damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "aac", {"options": {"movflags": "faststart"}}),
        ("mp4", "aac", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("matroska", "aac", {}),
        ("webm", "libopus", {}),
        ("matroska", "aac", {"options": {"live": "1"}}),
        ("avi", "pcm_s16le", {}),
        ("avi", "libmp3lame", {"picture": 12.0}),
        ("asf", "wmav2", {"rate": 44_100, "bit_rate": 64_000}),
        ("flv", "aac", {"rate": 44_100}),
        ("mpegts", "aac", {}),
        ("m2ts", "libmp3lame", {}),
        ("wv", "wavpack", {}),
        ("rm", "ac3", {}),
        ("tta", "tta", {}),
        ("adts", "aac", {}),
        ("ac3", "ac3", {}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.93])
def test_truncated_files_are_noticed(container: str, codec: str, options: dict, share: float) -> None:
    data = media_file(container, codec, [tone(4, options.get("rate", 48_000))], **options)
    cut = data[: int(len(data) * share) | 1]
    with pytest.raises(AudioError, match="truncated"):
        load_audio(cut)
    with pytest.warns(UserWarning, match="could not be read: it is (damaged or )?truncated"):
        rest = load_audio(cut, on_damage="skip")
    assert len(rest) / 16_000 == pytest.approx(4 * share, abs=1.1)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("matroska", "flac"), ("mp4", "alac"), ("ogg", "flac"), ("flac", "flac")],
)
def test_a_damaged_stretch_is_an_error_or_silence(container: str, codec: str) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(30 * 16_000)).clip(-1, 1).astype(np.float32)
    data = bytearray(media_file(container, codec, [noise], rate=16_000))
    middle = len(data) // 2
    data[middle : middle + 4_000] = bytes(np.random.default_rng(1).integers(0, 256, 4_000, np.uint8))
    whole = load_audio(media_file(container, codec, [noise], rate=16_000))
    with pytest.raises(AudioError, match=r"is damaged.*to use the rest, set `on_damage` to 'skip'"):
        load_audio(bytes(data))
    with pytest.warns(UserWarning, match=r"\d\.\d\d s of it could not be read: it is damaged"):
        rest = load_audio(bytes(data), on_damage="skip")
    assert len(rest) == pytest.approx(len(whole), abs=16_000)
    np.testing.assert_array_equal(rest[: 4 * 16_000], whole[: 4 * 16_000])
    np.testing.assert_allclose(rest[-3 * 16_000 :], whole[-3 * 16_000 :], atol=1e-4)


def test_wrong_values_of_on_damage() -> None:
    with pytest.raises(AudioError, match="`on_damage` must be 'stop' or 'skip', but is 'repair'"):
        load_audio(b"RIFF", on_damage="repair")  # type: ignore[arg-type]
