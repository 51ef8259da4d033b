"""`dragoman evaluate` from a manifest to reports, with a tiny random model."""

import json

import pytest
import soundfile

from dragoman.cli import main
from dragoman.testing import synthetic_speech


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["path\tsentence\tclient_id"]
    for number in range(6):
        soundfile.write(f"{number}.wav", synthetic_speech(1.0, seed=number), 16_000)
        lines.append(f"{number}.wav\tab cd {'ef' * number}\ts{number % 2}")
    (tmp_path / "test.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def run(capsys):
    def evaluate(*arguments):
        capsys.readouterr()
        fixed = ("--device", "cpu", "--beam_size", "1", "--no_vad_filter", "--temperature", "0", "--resamples", "100")
        code = main(["evaluate", *map(str, arguments), *fixed])
        return code, *capsys.readouterr()

    return evaluate


def test_scores_and_reports(run, corpus, tiny_checkpoint):
    code, out, err = run(tiny_checkpoint, "test.tsv", "--json", "r.json", "--html", "r.html", "--clips", 2)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{tiny_checkpoint} on test.tsv: 6 items, 6.0 s, RTFx ")
    assert [line.split()[0] for line in lines[2:]] == ["WER", "CER", "BLEU", "chrF", "TER"]
    assert "jiwer:" in lines[2]
    assert "norm:basic" in lines[2]
    facts = json.loads((corpus / "r.json").read_text())
    assert facts["items"] == 6
    assert facts["rtfx"] > 0
    assert facts["options"]["beam_size"] == 1
    assert {one["hypothesis"] for one in facts["results"]} != {""}
    assert (corpus / "r.html").read_text().count("<audio") == 2


def test_two_systems_and_json_on_standard_output(run, corpus, tiny_checkpoint):
    code, out, _ = run(
        tiny_checkpoint, "test.tsv", "--against", tiny_checkpoint, "--metrics", "cer", "--json", "-", "--limit", 3
    )
    facts = json.loads(out)
    assert code == 0
    assert facts["items"] == 3
    assert facts["comparisons"]["cer"] == {
        "name": "cer", "difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0, "better": None
    }  # fmt: skip
    code, out, _ = run(tiny_checkpoint, "test.tsv", "--against", tiny_checkpoint, "--units", "speaker")
    assert "p = 1.0000: no significant difference" in out


def test_unusable_items_are_left_out_named_and_limited(run, corpus, tiny_checkpoint):
    (corpus / "5.wav").write_bytes((corpus / "5.wav").read_bytes()[:9_000])
    with (corpus / "test.tsv").open("a") as file:
        file.write("gone.wav\tx\ts1\n")
    code, out, err = run(tiny_checkpoint, "test.tsv", "--max_bad", 0.4)
    assert code == 1
    assert "5 items" in out
    assert "test.tsv:8: gone.wav: there is no such file" in err
    assert "test.tsv:7: " in err
    assert "is truncated" in err
    code, _, err = run(tiny_checkpoint, "test.tsv")
    assert code == 5
    assert "1 of 7 items cannot be used, more than the limit of 5.0%" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.tsv"], 3, "no such file"),
        (["test.tsv", "--json", "no/folder/r.json"], 2, "there is no folder"),
        (["test.tsv", "--metrics", "wre"], 2, 'Did you mean "wer"?'),
        (["test.tsv", "--max_bad", "5"], 2, "must be a share from 0 to 1"),
    ],
)
def test_exit_codes(run, corpus, tiny_checkpoint, arguments, code, message):
    found, out, err = run(tiny_checkpoint, *arguments)
    assert (found, out) == (code, "")
    assert message in err
