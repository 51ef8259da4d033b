"""`dragoman listen`: samples from a pipe or a microphone, transcripts on standard output."""

import io
import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import typer

from dragoman.cli import app, main
from dragoman.cli.sound import sound_from
from dragoman.errors import AudioError, ConfigError, MissingDependencyError
from dragoman.transcriber import Transcriber


class Pipe:
    """Standard input that returns odd numbers of bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = self
        self.file = io.BytesIO(data)

    def isatty(self) -> bool:
        return False

    def read1(self, size: int) -> bytes:
        return self.file.read(min(size, 3_333))


def as_bytes(samples, rate=16_000):
    resampled = samples if rate == 16_000 else soxr.resample(samples, 16_000, rate)
    return (np.clip(resampled, -1, 1) * 32767).astype("<i2").tobytes()


@pytest.fixture
def says(monkeypatch, sample):
    def says(rate=16_000):
        monkeypatch.setattr(sys, "stdin", Pipe(as_bytes(sample, rate)))

    return says


def test_final_transcripts_are_lines(says, tiny_checkpoint, sample, capsys):
    says()
    assert main(["listen", "-", "--model", str(tiny_checkpoint), "--device", "cpu", "--chunk_length_s", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    samples = np.frombuffer(as_bytes(sample), "<i2").astype(np.float32) / 2**15
    whole = Transcriber(tiny_checkpoint, device="cpu").transcribe(samples, chunk_length_s=3, batch_size=1)
    assert len(printed) > 1
    assert " ".join(printed) == whole.text


def test_json_includes_partial_transcripts(says, tiny_checkpoint, capsys):
    says()
    words = ["listen", "-", "-f", "json", "--model", str(tiny_checkpoint), "--device", "cpu", "--interval_s", "0.5"]
    assert main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["is_final"] for line in lines} == {True, False}
    assert all(set(line) == {"text", "tentative", "is_final", "start", "end", "segments"} for line in lines)
    assert all(line["segments"] for line in lines if line["is_final"])


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_samples_of_other_rates(monkeypatch, sample, rate):
    monkeypatch.setattr(sys, "stdin", Pipe(as_bytes(sample, rate) + b"\x01"))  # half a sample at the end
    found = np.concatenate(list(sound_from("-", sampling_rate=rate, microphone=None)))
    assert len(found) == pytest.approx(len(sample), abs=10)
    # what lies below 4 kHz is still there
    assert np.corrcoef(np.abs(found[: len(sample)]), np.abs(sample[: len(found)]))[0, 1] > 0.7


def wav(samples, subtype="PCM_16", rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def listened(monkeypatch, data, rate=16_000):
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    return np.concatenate(list(sound_from("-", sampling_rate=rate, microphone=None)))


def test_the_header_of_a_wav_stream_is_used(monkeypatch, sample):
    stereo = np.stack([sample, np.zeros_like(sample)], axis=1)
    once = listened(monkeypatch, wav(sample))
    assert np.abs(once - sample).max() <= 2**-15
    assert np.allclose(listened(monkeypatch, wav(stereo), rate=8_000), once / 2, atol=2**-15)
    assert len(listened(monkeypatch, wav(sample, rate=48_000))) == pytest.approx(len(sample) / 3, abs=10)
    whole = wav(sample)
    assert whole[36:40] == b"data"
    for size in (0, 0xFFFFFFFF, 0x7FFFFFFF):  # of programs that write to a pipe
        assert np.array_equal(listened(monkeypatch, whole[:40] + struct.pack("<I", size) + whole[44:]), once)
    noted = whole[:12] + b"LIST\x03\0\0\0abc\0" + whole[12:] + b"LIST\x04\0\0\0abcd"
    assert np.array_equal(listened(monkeypatch, noted), once)


def test_ctrl_c_ends_the_audio_but_not_the_program(monkeypatch, sample):
    class Interrupted(Pipe):
        def read1(self, size):
            if self.file.tell() > 40_000:
                raise KeyboardInterrupt
            return super().read1(size)

    monkeypatch.setattr(sys, "stdin", Interrupted(as_bytes(sample)))
    found = np.concatenate(list(sound_from("-", sampling_rate=16_000, microphone=None)))
    assert 20_000 <= len(found) < 22_000


@pytest.mark.parametrize("first", [b"\xff\xfb\x90\x00", b"\xff\xf1\x00\x01", b"RIFF"])
def test_samples_whose_beginning_looks_like_a_recording(monkeypatch, sample, first):
    data = first + as_bytes(sample)
    assert np.array_equal(listened(monkeypatch, data), np.frombuffer(data, "<i2").astype(np.float32) / 2**15)


@pytest.mark.parametrize(
    "kind", ["flac", "ogg", "mp3", "ID3", "no samples", "half a sample", "24 bits", "float", "cut", "bomb"]
)
def test_streams_other_than_samples_are_refused(kind, monkeypatch, sample):
    file = io.BytesIO()
    if kind in ("flac", "ogg", "mp3"):
        soundfile.write(file, sample, 16_000, format=kind.upper())
    other = {"ID3": b"ID3\4", "half a sample": b"a", "24 bits": wav(sample, "PCM_24"), "float": wav(sample, "FLOAT")}
    data = {"no samples": b"", "cut": wav(sample)[:30], "bomb": b"RIFF____WAVEnote" + b"\xff" * 9_000, **other}.get(
        kind, file.getvalue()
    )
    told = {
        "no samples": "no samples came",
        "half a sample": "no samples came",
        "24 bits": "must have samples of 16 bits in 1 to 8 channels, but has 24 bits in 1, format 1",
        "float": "but has 32 bits in 1, format 3",
        "bomb": "has a header, but no samples",
        "cut": "has a header, but no samples",
    }
    with pytest.raises(AudioError, match=told.get(kind, "is a recording .*, not samples")):
        listened(monkeypatch, data)


def test_invalid_sampling_rates_are_refused(monkeypatch, sample):
    for rate in (5, 2_000_000_000):
        with pytest.raises(AudioError, match=f"the sampling rate must be 1000 to 768000 Hz, but is {rate} Hz"):
            listened(monkeypatch, as_bytes(sample), rate)


def test_the_microphone_gives_samples_until_ctrl_c(monkeypatch):
    """With a fake device: test machines have none."""
    opened = {}

    class Stream:
        def __init__(self, **options):
            opened.update(options)

        def __enter__(self):
            for number in range(3):
                opened["callback"](np.full((1_600, 1), number, np.float32), 1_600, None, None)

        def __exit__(self, *_):
            opened["closed"] = True

    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(InputStream=Stream, PortAudioError=type("E", (Exception,), {}))
    )
    sound = sound_from("mic", sampling_rate=16_000, microphone="2")
    blocks = [next(sound) for _ in range(3)]
    assert [block[0] for block in blocks] == [0, 1, 2]
    assert all(block.shape == (1_600,) for block in blocks)
    assert (opened["device"], opened["samplerate"], opened["channels"]) == (2, 16_000, 1)
    with pytest.raises(StopIteration):
        sound.throw(KeyboardInterrupt)
    assert opened["closed"]


def test_invalid_sources_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"`source` must be mic or -, but is 'talk.wav'. Recordings are for"):
        sound_from("talk.wav", sampling_rate=16_000, microphone=None)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(AudioError, match="standard input is a terminal"):
        sound_from("-", sampling_rate=16_000, microphone=None)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[live\]"):
        sound_from("mic", sampling_rate=16_000, microphone=None)


def test_flags_and_defaults_are_those_of_transcribe():
    """Every option that is not about live audio is one of `transcribe`, with the same default."""
    commands = typer.main.get_command(app).commands
    listen, transcribe = ({p.name: p for p in commands[name].params} for name in ("listen", "transcribe"))
    own = {"source", "microphone", "sampling_rate", "interval_s", "output_format"}
    assert set(listen) - own <= set(transcribe)
    assert {name for name in set(listen) - own if listen[name].default != transcribe[name].default} == set()
