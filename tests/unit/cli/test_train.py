"""`dragoman train` from the command line: what is typed, and how it ends."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dragoman.cli import main
from dragoman.training.journal import Journal


@pytest.fixture
def words(tiny_checkpoint: Path, tmp_path: Path) -> list[str]:
    """A run of three steps, with an apostrophe and a colon in the names of folders."""
    folder = tmp_path / "it's: data"
    folder.mkdir()
    for number in range(4):
        wave = np.random.default_rng(number).standard_normal(4000).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", 0.1 * wave, 16_000)
    rows = [json.dumps({"audio": f"{number}.wav", "text": "abc"}) for number in range(4)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    path = str(folder / "train.jsonl")
    steps = ["--set", "training.max_steps=3", "--set", "training.save_steps=1", "--set", "data.seconds_per_batch=0.5"]
    return ["train", "--model", str(tiny_checkpoint), "--train", path, "-o", str(tmp_path / "it's: run"), *steps]


def test_flags_and_resume_without_a_configuration(words, tmp_path, capsys, monkeypatch):
    step = Journal.step

    def stopping(self, number, figures, every):
        step(self, number, figures, every)
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "step", stopping)
    assert main(words) == 128 + signal.SIGTERM
    out, err = capsys.readouterr()
    assert out == ""
    assert "Stopped by signal 15 after step 2. It is saved; --resume continues." in err
    monkeypatch.setattr(Journal, "step", step)
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "-o", str(tmp_path / "it's: run"), "--resume"]) == 0
    out = capsys.readouterr().out
    assert out == f"{tmp_path}/it's: run/best: written after 3 steps.\n"
    assert main([*words, "--resume"]) == 0


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 2, "There is nothing to train"),
        (["nowhere.yaml"], 3, "There is no file nowhere.yaml"),
        (["--encoder", "a"], 2, "There is nothing to train"),
        (["--model", "a"], 2, "`data.train` is needed"),
        (["--model", "a", "--train", "b"], 2, "`training.output_dir` is needed"),
        (["--set", "training.learing_rate=1"], 2, 'Did you mean "learning_rate"'),
        (["--model", "no-such-folder-here/at all", "--train", "b", "-o", "OUT"], 3, "no-such-folder"),
    ],
)
def test_wrong_usage_is_one_line(more, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["train", *more]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_line(words, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words[words.index("-o") + 1] = str(tmp_path / "file/run")
    assert main(words) == 1
    assert "cannot be written to" in capsys.readouterr().err


def test_the_mean_of_a_run(words, tmp_path, capsys):
    assert main(words) == 0
    run = tmp_path / "it's: run"
    assert main(["average", str(run), "-o", str(tmp_path / "mean"), "--last", "2"]) == 0
    assert "written, the mean of checkpoint-2, checkpoint-3." in capsys.readouterr().out
    assert (tmp_path / "mean" / "config.json").is_file()
    assert main(["average", str(run)]) == 2
    assert "needs a folder for the model" in capsys.readouterr().err
    assert main(["average", str(tmp_path / "nothing"), "-o", str(tmp_path / "other")]) == 2
    assert "0 checkpoints to average" in capsys.readouterr().err
