import json

import pytest

from dragoman.cli import main
from dragoman.errors import ConfigError


def test_json_has_every_number(tiny_checkpoint, sample_path, capsys):
    arguments = [str(tiny_checkpoint), "--audio", str(sample_path), "--repeats", "1", "--beam_size", "2", "--json"]
    assert main(["bench", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == str(tiny_checkpoint)
    assert found["beams"] == 2
    assert found["seconds"] == pytest.approx(7.7, abs=0.1)
    assert found["real_time_factor"] == pytest.approx(found["seconds"] / found["total"] * 1000)
    for name in ("features", "encoder", "start", "greedy_step", "beam_step", "matrix_rate", "read_rate"):
        assert found[name] > 0, name
    assert found["total"] > found["encoder"]
    assert 0 < found["encoder_share"] < 1.5
    assert found["peak_memory"] > 50


def test_the_table_names_the_parts(tiny_checkpoint, capsys):
    assert main(["bench", str(tiny_checkpoint), "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    for part in (
        "features",
        "encoder",
        "greedy step",
        "beam 5 step",
        "transcript of 7.7 s",
        "real-time factor",
        "torch",
    ):
        assert part.casefold() in out.casefold(), part


def test_wrong_values_are_refused(tiny_checkpoint, capsys):
    assert main(["bench", str(tiny_checkpoint), "--repeats", "0"]) == ConfigError.exit_code
    assert "`repeats` must be at least 1" in capsys.readouterr().err
