"""Every flag of `transcribe` reaches the function that uses it."""

import sys
from dataclasses import asdict

import pytest
import torch
import typer

from dragoman import SpeechEncoderDecoderModel
from dragoman._install import install_command
from dragoman.cli import app, main
from dragoman.transcriber import decoding, fallback, loading, segment_stream
from dragoman.transcriber.guards import fails
from dragoman.transcriber.scorers import scorers_for

# flag -> (typed value, function that must receive it, its argument, its value)
ARRIVES = {
    "--model_dir": ("cache", "resolve", "cache_dir", "cache"),
    "--revision": ("v2", "resolve", "revision", "v2"),
    "--local_files_only": (None, "resolve", "local_files_only", True),
    "--hf_token": ("hf_secret", "resolve", "token", "hf_secret"),
    "--beam_size": ("3", "generate", "num_beams", 3),
    "--length_penalty": ("0.5", "generate", "length_penalty", 0.5),
    "--repetition_penalty": ("1.5", "generate", "repetition_penalty", 1.5),
    "--no_repeat_ngram_size": ("2", "generate", "no_repeat_ngram_size", 2),
    "--nbest": ("2", "generate", "num_return_sequences", 2),
    "--max_new_tokens": ("5", "generate", "max_new_tokens", 5),
    "--temperature": ("0.7", "generate", "temperature", 0.7),
    "--best_of": ("2", "generate", "num_return_sequences", 2),
    "--compression_ratio_threshold": ("1.5", "guards", "compression_ratio_threshold", 1.5),
    "--logprob_threshold": ("none", "guards", "logprob_threshold", None),
    "--no_speech_threshold": ("0.25", "guards", "no_speech_threshold", 0.25),
    "--hotwords": ("lamp, moon", "scorers", "phrases", ("lamp", "moon")),
    "--hotwords_weight": ("1.5", "scorers", "hotwords_weight", 1.5),
    "--lm_unit": ("words", "scorers", "lm_unit", "words"),
    "--lm_weight": ("0.7", "scorers", "lm_weight", 0.7),
    "--batch_size": ("1", "generate", "rows", 1),
    "--chunk_length_s": ("3.5", "windows", "max_seconds", 3.5),
    "--stride_length_s": ("0.25", "windows", "overlap_s", 0.25),
    "--no_vad_filter": (None, "windows", "threshold", 0.0),
    "--vad_threshold": ("0.25", "windows", "threshold", 0.25),
    "--vad_min_speech_duration_ms": ("77", "windows", "min_speech_ms", 77),
    "--vad_max_speech_duration_s": ("4.5", "windows", "max_speech_s", 4.5),
    "--vad_min_silence_duration_ms": ("321", "windows", "min_silence_ms", 321),
    "--vad_speech_pad_ms": ("99", "windows", "pad_ms", 99),
}
# Flags whose effect is visible from outside, in the tests of this folder and of the command.
SEEN = {
    "--model",
    "--device",
    "--backend",
    "--engine",
    "--threads",
    "--copy_weights",
    "--output_format",
    "--output_dir",
    "--skip_existing",
    "--language",
    "--target_language",
    "--no_punctuation",
    "--punctuation",
    "--condition_on_previous_text",
    "--initial_prompt",
    "--lm",
    "--task",
    "--word_timestamps",
    "--max_line_width",
    "--max_line_count",
    "--max_words_per_line",
    "--highlight_words",
    "--plot",
    "--plot_format",
    "--audio_track",
    "--on_damage",
}
SEEN |= {  # in tests/e2e/test_whisper_command_lines.py
    "--temperature_increment_on_fallback",
    "--batched",
    "--fp16",
    "--compute_type",
    "--without_timestamps",
    "--patience",
    "--hallucination_silence_threshold",
    "--prepend_punctuations",
    "--append_punctuations",
    "--print_colors",
    "--clip_timestamps",
    "--suppress_tokens",
}
SEEN |= {"--short_windows"}  # in tests/unit/transcriber/test_short_windows.py
SEEN |= {"--ctc_weight", "--vad_filter", "--verbose", "--json_logs", "--debug"}


@pytest.fixture
def arrived(monkeypatch):
    """The arguments of the real functions, by name of the function."""
    calls = {"resolve": [], "generate": [], "windows": [], "guards": [], "scorers": []}
    resolve, windows, generate = loading.resolve, segment_stream.speech_windows, SpeechEncoderDecoderModel.generate

    def recorded_resolve(name, **options):
        calls["resolve"].append({name: str(value) if name == "cache_dir" else value for name, value in options.items()})
        return resolve(name, **options)

    def recorded_windows(blocks, max_seconds, **options):
        calls["windows"].append({"max_seconds": max_seconds, **options})
        return windows(blocks, max_seconds, **options)

    def recorded_generate(model, *args, **options):
        calls["generate"].append({"rows": len(options["decoder_input_ids"]), **options})
        return generate(model, *args, **options)

    def recorded_fails(decoded, options):
        calls["guards"].append(asdict(options))
        return fails(decoded, options)

    def recorded_scorers(engine, options):
        calls["scorers"].append({**asdict(options), "phrases": options.phrases})
        return scorers_for(engine, options)

    monkeypatch.setattr(fallback, "fails", recorded_fails)
    monkeypatch.setattr(decoding, "scorers_for", recorded_scorers)
    monkeypatch.setattr(loading, "resolve", recorded_resolve)
    monkeypatch.setattr(segment_stream, "speech_windows", recorded_windows)
    monkeypatch.setattr(SpeechEncoderDecoderModel, "generate", recorded_generate)
    return calls


def test_every_flag_is_in_this_file():
    command = typer.main.get_command(app).commands["transcribe"]
    flags = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name[:2] == "--"
    }
    assert flags - {"--help"} == ARRIVES.keys() | SEEN


@pytest.mark.parametrize("flag", ARRIVES)
def test_a_flag_takes_effect(flag, arrived, tiny_checkpoint, sample_path, capsys):
    typed, where, name, value = ARRIVES[flag]
    words = ["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--chunk_length_s", "3"]
    # Search only, unless the flag is about sampling.
    if flag != "--temperature":
        words += ["--temperature", "0.5" if flag == "--best_of" else "0"]
    assert main(words) == 0
    assert {call.get(name) for call in arrived[where]} != {value}, "the test must change something"
    arrived[where].clear()
    assert main([*words, flag, *([typed] if typed else [])]) == 0
    assert {call[name] for call in arrived[where]} == {value}
    assert "error" not in capsys.readouterr().err


def test_ctc_needs_a_head(tiny_checkpoint, sample_path, capsys):
    words = ["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--temperature", "0"]
    assert main([*words, "--ctc_weight", "0.3"]) == 2
    assert "`ctc_weight` is 0.3, but the model has no head for CTC." in capsys.readouterr().err


def test_threads(tiny_checkpoint, sample_path, capsys):
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            assert (
                main(["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--threads", str(threads)]) == 0
            )
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_language_and_task_without_effect_are_a_warning(tiny_checkpoint, sample_path, capsys):
    words = ["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--language", "cs", "--task", "translate"]
    assert main(words) == 0
    err = capsys.readouterr().err
    assert err.startswith(
        "dragoman: warning: `language` (cs) and `task` (translate) have no effect with this model: it writes"
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (["--word_timestamps", "-f", "json"], '"words": [{"word": '),
        (["--highlight_words", "-f", "srt"], "<u>"),
        (["--max_words_per_line", "1", "-f", "vtt"], "-->"),
        (["--max_line_width", "4", "--max_line_count", "1", "-f", "srt"], "-->"),
    ],
)
def test_subtitle_flags_change_the_files(flags, seen, tiny_checkpoint, sample_path, tmp_path, capsys):
    words = ["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--chunk_length_s", "3", "-o"]
    assert main([*words, str(tmp_path / "plain"), *flags[-2:]]) == 0
    assert main([*words, str(tmp_path / "laid_out"), *flags]) == 0
    plain, laid_out = (next((tmp_path / name).iterdir()).read_text() for name in ("plain", "laid_out"))
    assert laid_out.count(seen) > plain.count(seen)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--highlight_words"], "Add --output_format srt, vtt or all"),
        (["--max_line_width", "9", "-f", "json"], "Add --output_format srt, vtt or all"),
        (["--max_line_count", "2", "-f", "srt"], "needs `max_line_width`"),
        (["--max_line_width", "0", "-f", "srt"], "must be at least 1"),
        (["--nbest", "6"], "at most `beam_size`"),
        (["--temperature", "0,warm"], "`temperature` must be one or more numbers, as in 0,0.2,0.4, but is '0,warm'"),
        (["--logprob_threshold", "low"], "`logprob_threshold` must be a number, or none to turn it off, but is 'low'"),
    ],
)
def test_flags_that_are_usage_errors(flags, message, sample_path, capsys):
    assert main(["transcribe", str(sample_path), *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "ending", "magic"), [([], "png", b"\x89PNG"), (["--plot_format", "svg"], "svg", b"<?xml")]
)
def test_one_plot_per_window(flags, ending, magic, tiny_checkpoint, sample_path, tmp_path, capsys):
    words = ["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--chunk_length_s", "4"]
    assert main([*words, "--plot", str(tmp_path / "deep" / "plots"), *flags]) == 0
    pictures = sorted((tmp_path / "deep" / "plots").iterdir())
    assert [picture.name for picture in pictures] == [f"sample_en-{n:04}.{ending}" for n in range(1, len(pictures) + 1)]
    assert len(pictures) > 1
    assert all(picture.read_bytes().startswith(magic) for picture in pictures)
    assert capsys.readouterr().err == ""


def test_folder_and_names_of_plots(tiny_checkpoint, sample_path, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["transcribe", str(sample_path), "--plot", str(tmp_path / "taken")]) == 2
    assert f"`--plot` {tmp_path / 'taken'} cannot be made: File exists." in capsys.readouterr().err
    for ending in ("flac", "wav"):  # the content says what it is, not the name
        (tmp_path / "sound").mkdir(exist_ok=True)
        (tmp_path / "sound" / f"a.{ending}").write_bytes(sample_path.read_bytes())
    words = ["transcribe", str(tmp_path / "sound"), "--model", str(tiny_checkpoint), "--plot", str(tmp_path / "plots")]
    assert main(words) == 0
    assert sorted({path.name[:-9] for path in (tmp_path / "plots").iterdir()}) == ["a.flac", "a.wav"]


def test_plots_need_matplotlib(tiny_checkpoint, sample_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    assert main(["transcribe", str(sample_path), "--model", str(tiny_checkpoint), "--plot", str(tmp_path / "p")]) == 3
    assert install_command("plots") in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
