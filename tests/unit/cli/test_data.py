"""`dragoman data check`: tables, problems with their lines, exit codes, and a model's tokenizer and decoder."""

import json

import numpy as np
import pytest
import soundfile

from dragoman.cli import main
from dragoman.testing import synthetic_speech


@pytest.fixture
def corpus(tmp_path):
    for number, name in enumerate("abcdef", 1):
        soundfile.write(tmp_path / f"{name}.wav", synthetic_speech(number / 5, seed=number), 16_000)
    (tmp_path / "copy.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "broken.wav").write_bytes((tmp_path / "f.wav").read_bytes()[:5_000])
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    (tmp_path / "good.tsv").write_text("path\tsentence\tclient_id\na.wav\tone\ts1\nb.wav\ttwo\ts2\nc.wav\tthree\ts2\n")
    (tmp_path / "bad.tsv").write_text(
        "path\tsentence\tclient_id\na.wav\tone\ts1\ncopy.wav\tother\ts3\nb.wav\tOne\ts2\nbroken.wav\tx\ts4\n"
        "gone.wav\ty\ts4\nd.wav\t\ts4\nsilent.wav\tshh\ts4\ne.wav\tcaf\ufffd\ts4\n"
    )
    return tmp_path


@pytest.fixture
def run(capsys):
    def check(*arguments):
        capsys.readouterr()
        code = main(["data", "check", *map(str, arguments)])
        return code, *capsys.readouterr()

    return check


def test_a_good_data_set(run, corpus):
    code, out, err = run(corpus / "good.tsv")
    assert (code, err) == (0, "")
    assert "3 of 3 items are usable: 0.00 hours, 2 speakers" in out
    assert "seconds                      0.20" in out
    assert "█" in out
    assert "Unusable" not in out


def test_every_fault_is_named_with_its_line(run, corpus):
    code, out, _ = run(corpus / "bad.tsv", "--json")
    assert code == 1
    (facts,) = json.loads(out)["sets"]
    found = {(p["kind"], p["source"].rpartition(":")[2]) for p in facts["problems"]}
    assert found == {("broken audio", "5"), ("missing audio", "6"), ("empty text", "7")}
    notes = {(p["kind"], p["source"].rpartition(":")[2]) for p in facts["notes"]}
    assert notes == {
        ("contradictory text", "3"),
        ("repeated text", "2"),
        ("silent audio", "8"),
        ("lost characters", "9"),
    }
    assert (facts["items"], facts["usable"]) == (8, 5)
    code, out, _ = run(corpus / "bad.tsv", "--headers_only")
    assert code == 1
    assert "    missing audio: 1\n" in out
    assert f"      {corpus}/bad.tsv:7: the text is empty" in out


def test_the_overlap_of_two_sets(run, corpus):
    code, out, _ = run(corpus / "good.tsv", corpus / "bad.tsv")
    assert code == 1
    assert "share\n  1 texts, such as 'one'\n  2 recordings, such as" in out
    assert "  2 speakers, such as 's1'" in out


def test_a_model_that_cannot_write_the_texts(run, corpus, tiny_checkpoint):
    (corpus / "texts.csv").write_text(
        f"audio,text\na.wav,abc\nb.wav,Été ж\nc.wav,{'abcdefgh ' * 9}\n", encoding="utf-8"
    )
    code, out, _ = run(corpus / "texts.csv", "--model", tiny_checkpoint, "--json")
    (facts,) = json.loads(out)["sets"]
    assert code == 1
    assert [(p["kind"], p["source"][-1]) for p in facts["problems"]] == [("text too long", "4")]
    assert facts["max_tokens"] == 32
    written = {one["character"]: one["written"] for one in facts["unwritable"]}
    assert written == {"É": "e", "é": "e", "ж": ""}
    _, out, _ = run(corpus / "texts.csv", "--model", tiny_checkpoint)
    assert "'ж' (U+0436) is lost: 1 times, first in" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.tsv"], 3, "no such file or folder"),
        (["good.tsv", "--columns", "text"], 2, "must be like audio=clip,text=translation"),
        (["good.tsv", "--columns", "text=words"], 5, "good.tsv:1: there is no column for the text"),
        (["good.tsv", "--columns", "txet=words"], 2, 'Did you mean "text"?'),
    ],
)
def test_exit_codes(run, corpus, monkeypatch, arguments, code, message):
    monkeypatch.chdir(corpus)
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
