"""`dragoman listen`: samples from a pipe or a microphone, texts on standard output."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soxr
import typer

from dragoman.cli import app, main
from dragoman.cli.sound import sound_from
from dragoman.errors import AudioError, ConfigError, MissingDependencyError
from dragoman.transcriber import Transcriber


class Pipe:
    """Standard input: gives what has come, in odd numbers of bytes."""

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


def test_final_texts_are_lines(says, tiny_checkpoint, sample, capsys):
    says()
    assert main(["listen", "-", "--model", str(tiny_checkpoint), "--device", "cpu", "--chunk_length_s", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    heard = np.frombuffer(as_bytes(sample), "<i2").astype(np.float32) / 2**15
    whole = Transcriber(tiny_checkpoint, device="cpu").transcribe(heard, chunk_length_s=3, batch_size=1)
    assert len(printed) > 1
    assert " ".join(printed) == whole.text


def test_json_has_partial_texts_too(says, tiny_checkpoint, capsys):
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


def test_the_microphone_gives_samples_until_ctrl_c(monkeypatch):
    """A stand-in for the machine's: there is none where tests run."""
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


def test_what_cannot_be_listened_to(monkeypatch):
    with pytest.raises(ConfigError, match=r"`source` must be mic or -, but is 'talk.wav'. Recordings are for"):
        sound_from("talk.wav", sampling_rate=16_000, microphone=None)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(AudioError, match="standard input is a terminal"):
        sound_from("-", sampling_rate=16_000, microphone=None)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dragoman\[live\]'"):
        sound_from("mic", sampling_rate=16_000, microphone=None)


def test_flags_mean_what_they_mean_for_recordings():
    """Every option that is not about the sound itself is one of `transcribe`, with the same default."""
    commands = typer.main.get_command(app).commands
    listen, transcribe = ({p.name: p for p in commands[name].params} for name in ("listen", "transcribe"))
    own = {"source", "microphone", "sampling_rate", "interval_s", "output_format"}
    assert set(listen) - own <= set(transcribe)
    assert {name for name in set(listen) - own if listen[name].default != transcribe[name].default} == set()
