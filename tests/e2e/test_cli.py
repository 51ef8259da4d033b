"""The command line as users run it: processes, files, a tiny random model, and the default model on real speech."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dragoman.cli import main

PROGRAM = [sys.executable, "-m", "dragoman"]


def command(*arguments: object, **environment: str) -> dict:
    return {
        "args": [*PROGRAM, *map(str, arguments)],
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        "cwd": os.getcwd(),
    }


def dragoman(*arguments: object, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(**command(*arguments, **environment), input=stdin, capture_output=True, check=False)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    return done


@pytest.fixture
def run(capsys):
    """Run the command in this process, which saves importing PyTorch every time."""

    def main_here(*arguments: object) -> subprocess.CompletedProcess:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return main_here


def one_line(done: subprocess.CompletedProcess) -> str:
    """Return the only message of a failed run, which has an empty stdout and no traceback."""
    assert done.stdout == ""
    assert re.fullmatch(r"dragoman: error: [^\n]+\n", done.stderr), done.stderr
    assert "Unexpected" not in done.stderr
    return done.stderr.removeprefix("dragoman: error: ").strip()


@pytest.fixture
def here(tmp_path, monkeypatch, sample) -> Path:
    """The current folder, with three recordings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talks/monday").mkdir(parents=True)
    for i, name in enumerate(("one.wav", "talks/two.flac", "talks/monday/three.ogg")):
        soundfile.write(tmp_path / name, sample[: (i + 2) * 16_000], 16_000)
    return tmp_path


# --- help and usage errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["transcribe", "--help"], ["transcribe", "--bogus"]])
def test_help_needs_no_framework(arguments, here):
    loaded = (
        "import sys; from dragoman.cli import main; main(sys.argv[1:]); print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", loaded, *arguments], capture_output=True, text=True, check=True)
    assert "'typer'" in done.stderr
    assert not {"'torch'", "'numpy'", "'tokenizers'", "'huggingface_hub'"} & set(re.findall(r"'\w+'", done.stderr))


def test_version():
    done = dragoman("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"dragoman \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["transcribe"], "Missing argument"),
        (["transcribe", "one.wav", "--bogus"], "No such option: --bogus"),
        (["transcribe", "one.wav", "--beam_size", "0"], "`beam_size` must be at least 1, but is 0."),
        (["transcribe", "one.wav", "--beam_size", "five"], "--beam_size"),
        (["transcribe", "one.wav", "--task", "sing"], "sing"),
        (["transcribe", "one.wav", "--output_format", "docx"], "must be one of txt, vtt, srt, tsv, json, all"),
        (["transcribe", "one.wav", "--output_format", ""], "must be one of txt, vtt, srt, tsv, json, all"),
        (["transcribe", "one.wav", "--output_dir", "one.wav"], "`--output_dir` one.wav cannot be made: File exists."),
        (
            ["transcribe", "one.wav", "--chunk_length_s", "inf"],
            "`chunk_length_s` must be at least 1 second, but is inf.",
        ),
        (["transcribe", "one.wav", "--skip_existing"], "Add --output_format"),
        (["transcribe", "one.wav", "--device", "abacus"], "`device` must be"),
        (["transcribe", "one.wav", "--threads", "0"], "--threads"),
        (["translate", "one.wav"], "No such command"),
    ],
)
def test_usage_errors_are_one_line_with_status_2(arguments, says, here, tiny_checkpoint, run):
    done = run(*arguments, *(["--model", tiny_checkpoint] if "--device" in arguments else []))
    assert done.returncode == 2
    assert says in one_line(done)


# --- output -----------------------------------------------------------------------------------------------------------


def test_text_goes_to_stdout_and_no_file_is_written(here, tiny_checkpoint, run):
    before = sorted(here.rglob("*"))
    done = run("transcribe", "one.wav", "--model", tiny_checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert sorted(here.rglob("*")) == before


def test_several_recordings_are_named(here, tiny_checkpoint, run):
    done = run("transcribe", "one.wav", "talks", "--model", tiny_checkpoint)
    assert done.returncode == 0, done.stderr
    names = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert names == ["one.wav", "talks/monday/three.ogg", "talks/two.flac"]


def test_standard_input_equals_a_file(here, tiny_checkpoint, run):
    by_name = run("transcribe", "one.wav", "--model", tiny_checkpoint)
    piped = dragoman("transcribe", "-", "--model", tiny_checkpoint, stdin=Path("one.wav").read_bytes())
    assert (piped.returncode, piped.stdout) == (0, by_name.stdout)


def test_output_files_keep_the_folder_structure(here, tiny_checkpoint, run):
    done = run("transcribe", "one.wav", "talks", "-f", "all", "-o", "out", "--model", tiny_checkpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    endings = ("txt", "vtt", "srt", "tsv", "json")
    assert written == {f"{stem}.{ending}" for stem in ("one", "two", "monday/three") for ending in endings}
    data = json.loads(Path("out/monday/three.json").read_text())
    assert data["duration"] == pytest.approx(4.0, abs=0.02)
    assert data["model"] == {"name": str(tiny_checkpoint), "commit": None}
    assert data["parameters"]["beam_size"] == 5
    assert all(0 <= segment["start"] < segment["end"] <= 4.02 for segment in data["segments"])


def test_flags_with_dashes_or_underscores_and_both_booleans(here, tiny_checkpoint, run):
    ours = run("transcribe", "one.wav", "--model", tiny_checkpoint, "--beam_size", "1", "--no_vad_filter")
    theirs = run("transcribe", "one.wav", "--model", tiny_checkpoint, "--beam-size=1", "--vad-filter", "False")
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == theirs.stdout


def test_skip_existing_transcribes_the_rest(here, tiny_checkpoint, run):
    arguments = ("transcribe", "talks", "-f", "txt", "-o", "out", "--model", tiny_checkpoint)
    assert run(*arguments).returncode == 0
    kept, lost = Path("out/two.txt"), Path("out/monday/three.txt")
    expected = lost.read_text()
    kept.write_text("mine")
    lost.unlink()
    done = run(*arguments, "--skip_existing", "--verbose")
    assert done.returncode == 0
    assert "1 of 2 recordings are already transcribed" in done.stderr
    assert (kept.read_text(), lost.read_text()) == ("mine", expected)


def test_json_logs_are_json(here, tiny_checkpoint, run):
    done = run("transcribe", "one.wav", "gone.wav", "--model", tiny_checkpoint, "--json_logs", "--verbose")
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"info", "error"} <= {record["level"] for record in records}
    assert any("gone.wav" in record["message"] for record in records)


# --- errors -----------------------------------------------------------------------------------------------------------


def wav(values: np.ndarray, *, rate: int = 16_000, kind: int = 1) -> bytes:
    """Return a WAV file, including some that libsndfile would not write."""
    channels = 1 if values.ndim == 1 else values.shape[1]
    data, size = values.tobytes(), values.dtype.itemsize
    fields = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * size, channels * size, 8 * size)
    chunks = b"WAVEfmt " + struct.pack("<I", len(fields)) + fields + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


BAD_AUDIO = {
    "empty.wav": (b"", "is empty"),
    "silent.wav": (wav(np.zeros(0, np.int16)), "has no samples"),
    "text.wav": (b"This is a text and no sound at all.\n" * 20, "text.wav: "),
    "nan.wav": (wav(np.full(16_000, np.nan, np.float32), kind=3), "not a finite number"),
}


def test_bad_audio_is_one_line_each_and_the_rest_continues(here, tiny_checkpoint, run):
    for name, (content, _) in BAD_AUDIO.items():
        Path(name).write_bytes(content)
    done = run("transcribe", *BAD_AUDIO, "gone.wav", "one.wav", "-f", "txt", "--model", tiny_checkpoint)
    assert done.returncode == 1
    assert Path("one.txt").read_text().strip()
    assert sorted(path.name for path in here.glob("*.txt")) == ["one.txt"]
    lines = done.stderr.splitlines()
    for name, (_, cause) in {**BAD_AUDIO, "gone.wav": (b"", "there is no such file")}.items():
        (line,) = (line for line in lines[:-1] if name in line)
        assert line.startswith("dragoman: error: ")
        assert cause in line
    assert lines[-1].startswith("dragoman: error: 5 of 6 recordings failed: ")
    assert len(lines) == 6


@pytest.mark.parametrize("name", ["gone.wav", *BAD_AUDIO])
def test_single_bad_recording_is_one_line_with_status_1(name, here, tiny_checkpoint, run):
    if name in BAD_AUDIO:
        Path(name).write_bytes(BAD_AUDIO[name][0])
    done = run("transcribe", name, "--model", tiny_checkpoint)
    assert done.returncode == 1
    assert name in one_line(done)


def test_eight_channels_at_eight_kilohertz(here, tiny_checkpoint, sample, run):
    quarter = (sample[: 3 * 16_000 : 2] * 32_000).astype(np.int16)
    Path("phone.wav").write_bytes(wav(quarter, rate=8_000))
    Path("array.wav").write_bytes(wav(np.repeat(quarter[:, None], 8, axis=1), rate=8_000))
    done = run("transcribe", "phone.wav", "array.wav", "--model", tiny_checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    phone, array = (line.split("\t")[1] for line in done.stdout.splitlines())
    assert phone
    assert phone == array


def test_an_inverted_channel_is_a_warning_and_loses_no_text(here, tiny_checkpoint, sample, run):
    mono = (sample * 32_000).astype(np.int16)
    Path("mono.wav").write_bytes(wav(mono))
    Path("inverted.wav").write_bytes(wav(np.stack([mono, -mono], axis=1)))
    texts = [run("transcribe", name, "--model", tiny_checkpoint) for name in ("mono.wav", "inverted.wav")]
    assert texts[0].stdout.strip()
    assert texts[1].stdout == texts[0].stdout
    assert re.fullmatch(
        r"dragoman: warning: inverted\.wav: its channels cancel each other when mixed [^\n]*\n", texts[1].stderr
    )


def test_damage_is_an_error_or_skipped(here, tiny_checkpoint, sample, run):
    whole = wav((sample * 32_000).astype(np.int16))
    Path("cut.wav").write_bytes(whole[: len(whole) // 2])
    assert "cut.wav: is truncated" in one_line(run("transcribe", "cut.wav", "--model", tiny_checkpoint))
    done = run("transcribe", "cut.wav", "--on_damage", "skip", "--model", tiny_checkpoint)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert re.fullmatch(
        r"dragoman: warning: cut\.wav: 3\.86 s of it could not be read: it is truncated[^\n]*\n", done.stderr
    )


def test_an_audio_track_is_chosen(here, tiny_checkpoint, run):
    done = run("transcribe", "one.wav", "--audio_track", "1", "--model", tiny_checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    says = one_line(run("transcribe", "one.wav", "--audio_track", "2", "--model", tiny_checkpoint))
    assert "one.wav: has one audio track, but `audio_track` is 2" in says


@pytest.mark.parametrize("arguments", [(), ("-f", "srt")])
def test_an_empty_transcript_is_a_warning(arguments, here, tiny_checkpoint, run):
    Path("quiet.wav").write_bytes(wav(np.zeros(48_000, np.int16)))
    done = run("transcribe", "quiet.wav", *arguments, "--model", tiny_checkpoint)
    assert (done.returncode, done.stdout.strip()) == (0, "")
    assert done.stderr == (
        "dragoman: warning: quiet.wav: the transcript is empty: no speech was found in 3.0 s of audio. Listen to it; "
        "--no_vad_filter decodes everything.\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_unreadable_file_is_reported(here, tiny_checkpoint, run):
    Path("one.wav").chmod(0)
    done = run("transcribe", "one.wav", "--model", tiny_checkpoint)
    assert done.returncode == 1
    assert "cannot be read" in one_line(done)


def edited(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


BAD_MODELS = {
    "unknown model type": (lambda f: edited(f, model_type="oracle"), 5, "'oracle'"),
    "no encoder": (lambda f: edited(f, encoder=None), 5, "`encoder`"),
    "text decoder cannot hear": (lambda f: edited(f, decoder={"model_type": "hubert"}), 5, "hubert"),
    "not json": (lambda f: (f / "config.json").write_text("{,"), 5, "config.json"),
    "no config": (lambda f: (f / "config.json").unlink(), 3, "config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), 3, "weights"),
    "corrupt header": (lambda f: flip(f / "model.safetensors", 3), 5, "model.safetensors"),
    "truncated weights": (lambda f: os.truncate(f / "model.safetensors", 2_000), 5, "model.safetensors"),
    "other sizes": (
        lambda f: edited(f, decoder={**json.loads((f / "config.json").read_text())["decoder"], "hidden_size": 48}),
        5,
        "does not fit",
    ),
    "no tokenizer": (lambda f: [(f / n).unlink() for n in ("vocab.txt", "tokenizer_config.json")], 3, "tokenizer"),
    "no feature extractor": (lambda f: (f / "preprocessor_config.json").unlink(), 3, "preprocessor_config.json"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("subcommand", ["transcribe", "inspect"])
def test_bad_model_is_one_line(name, subcommand, here, tiny_checkpoint, run):
    damage, code, cause = BAD_MODELS[name]
    shutil.copytree(tiny_checkpoint, "model")
    damage(Path("model"))
    done = run(*(["transcribe", "one.wav", "--model"] if subcommand == "transcribe" else ["inspect"]), "model")
    if subcommand == "inspect" and name in ("no tokenizer", "no feature extractor"):
        assert done.returncode == 0
        assert cause in done.stdout.partition("Problems")[2]
        return
    assert done.returncode == code
    assert cause in one_line(done)


@pytest.mark.parametrize("model", ["./no-such-folder", "someone/some-model"])
def test_missing_model_has_status_3(model, here, run):
    done = run("transcribe", "one.wav", "--model", model, "--local_files_only")
    assert done.returncode == 3
    assert model in one_line(done)


def test_debug_shows_the_traceback(here):
    done = dragoman("transcribe", "gone.wav", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "AudioError" in done.stderr


# --- interruptions, pipes, terminals ----------------------------------------------------------------------------------


@pytest.fixture
def heeds_interrupts():
    """Background jobs of a shell ignore SIGINT, and so do their children; a Python handler is not inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_interrupts")
def test_interrupt_leaves_no_partial_files(here, tiny_checkpoint, sample):
    """Interrupted at many moments: no partial file, status 130, and `--skip_existing` transcribes the rest."""
    for i in range(6):
        soundfile.write(f"talks/{i}.wav", np.tile(sample, 2), 16_000)
    arguments = ("transcribe", "talks", "-f", "srt", "-o", "out", "--model", tiny_checkpoint, "--skip_existing")
    codes = set()
    for moment in np.linspace(0.3, 6.0, 12):
        process = subprocess.Popen(**command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        codes.add(process.returncode)
        if process.returncode == 130:
            assert errors.decode() == "dragoman: error: Interrupted.\n"
        assert not [path for path in Path("out").rglob("*") if path.is_file() and path.suffix != ".srt"]
    assert 130 in codes
    assert codes <= {0, 130, -signal.SIGINT}  # the last: while Python itself was starting
    assert dragoman(*arguments).returncode == 0
    assert len(list(Path("out").rglob("*.srt"))) == 8


def test_closed_pipe_ends_silently(here, tiny_checkpoint):
    process = subprocess.Popen(
        **command("transcribe", "one.wav", "talks", "--model", tiny_checkpoint),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert errors == ""


def on_a_terminal(*arguments: object, **environment: str) -> tuple[bytes, str]:
    """Return what a command shows on a terminal, and what it writes to standard output."""
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(**command(*arguments, TERM="xterm", **environment), stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    shown = b""
    try:
        while chunk := os.read(parent, 4096):
            shown += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(parent)
    words = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    return shown, words


@pytest.mark.parametrize("colours", [{}, {"NO_COLOR": "1"}])
def test_progress_bar_is_shown_on_stderr_of_a_terminal(colours, here, tiny_checkpoint, run):
    shown, words = on_a_terminal("transcribe", "one.wav", "--model", tiny_checkpoint, **colours)
    assert b"one.wav" in shown
    assert words == run("transcribe", "one.wav", "--model", tiny_checkpoint).stdout
    assert (re.search(rb"\x1b\[[\d;]*3[0-7]", shown) is None) == bool(colours)


def test_a_terminal_shows_which_files_were_written_and_a_script_sees_nothing(here, tiny_checkpoint, run):
    arguments = ("transcribe", "one.wav", "--model", tiny_checkpoint, "-f", "srt,json", "-o", "out")
    shown, words = on_a_terminal(*arguments)
    assert words == ""
    for name in ("one.srt", "one.json"):
        assert f"dragoman: out/{name}: written.".encode() in shown
        assert (here / "out" / name).is_file()
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert "written" not in done.stderr


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect_prints_model_parameters_report_and_problems(here, tiny_checkpoint, run):
    done = run("inspect", tiny_checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    titles = re.findall(r"^\w.*$", done.stdout, re.MULTILINE)
    assert titles == ["Model", "Parameters", "Load report", "Problems"]
    assert "tensors loaded from" in done.stdout
    assert done.stdout.rstrip().endswith("none found")


# --- the default model on real speech ---------------------------------------------------------------------------------


def plain(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


@pytest.mark.network
def test_default_model_transcribes_the_sample(here, sample_path):
    done = dragoman("transcribe", sample_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert plain(done.stdout) == plain(sample_path.with_suffix(".txt").read_text())


@pytest.mark.network
@pytest.mark.nightly
def test_long_recording_is_transcribed_completely_and_in_order(here, sample, sample_path):
    pause = np.zeros(8_000, np.float32)
    times = 12
    soundfile.write("long.flac", np.concatenate([part for _ in range(times) for part in (sample, pause)]), 16_000)
    done = dragoman("transcribe", "long.flac", "-f", "json", "--beam_size", "1")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(Path("long.json").read_text())
    assert plain(data["text"]) == plain(sample_path.with_suffix(".txt").read_text()) * times
    bounds = [time for segment in data["segments"] for time in (segment["start"], segment["end"])]
    assert bounds == sorted(bounds)
    assert (
        0
        <= bounds[0]
        < bounds[-1]
        <= data["duration"]
        == pytest.approx(times * (len(sample) + 8_000) / 16_000, abs=0.01)
    )


@pytest.mark.network
def test_flag_without_effect_warns(here, sample_path, run):
    done = run("transcribe", sample_path, "--task", "translate", "--beam_size", "1")
    assert done.returncode == 0
    assert re.fullmatch(r"dragoman: warning: `task` \(translate\) has no effect [^\n]*\n", done.stderr)
    assert "interpreter" in done.stdout


@pytest.mark.network
def test_an_english_only_model_refuses_other_languages(here, sample_path, run):
    done = run("transcribe", sample_path, "--language", "fr")
    assert done.returncode == 2
    assert "--model tiny" in one_line(done)


def test_families_are_printed(run):
    done = run("inspect", "--families")
    assert (done.returncode, done.stderr) == (0, "")
    assert "## Encoders" in done.stdout
    assert "| `wav2vec2` | waveform |" in done.stdout
    assert "| `gpt2` | cross-attention of every layer |" in done.stdout


def test_inspect_needs_an_argument(run):
    done = run("inspect")
    assert done.returncode == 2
    assert "--families" in one_line(done)
