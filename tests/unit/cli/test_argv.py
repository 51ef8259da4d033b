import pytest
import typer

from dragoman.cli import app
from dragoman.cli.argv import normalise


def spelt(*arguments: str) -> list[str]:
    return normalise(typer.main.get_command(app), arguments)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--output-format", "srt"], ["--output_format", "srt"]),
        (["--output_format=srt"], ["--output_format=srt"]),
        (["--output-dir=my-folder"], ["--output_dir=my-folder"]),
        (["my-file.wav", "-o", "a-b"], ["my-file.wav", "-o", "a-b"]),
        (["--", "--my-file.wav"], ["--", "--my-file.wav"]),
        (["-"], ["-"]),
        (["--vad_filter", "True", "a.wav"], ["--vad_filter", "a.wav"]),
        (["--vad-filter", "false", "a.wav"], ["--no_vad_filter", "a.wav"]),
        (["--vad_filter=False"], ["--no_vad_filter"]),
        (["--vad_filter", "a.wav"], ["--vad_filter", "a.wav"]),
        (["--no-vad-filter"], ["--no_vad_filter"]),
        (["--verbose", "False"], []),
        (["--verbose", "True"], ["--verbose"]),
        (["--model", "True"], ["--model", "True"]),
        (["--unknown-flag", "x"], ["--unknown_flag", "x"]),
    ],
)
def test_forms_of_flags(typed, meant):
    assert spelt(*typed) == meant
