"""Every command of the recipes and of the page on an evening runs, on small corpora of the same layouts.

The recordings are synthetic and say nothing. Names of the hub are folders with small checkpoints, and trainings are cut
to a few steps; all else is as written. Recipes that fetch real speech are tested in part, where there is a registry.
"""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import transformers

from dragoman.cli import main
from dragoman.testing import synthetic_speech
from dragoman.training import read_config

ROOT = Path(__file__).parents[2]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENGLISH = ("a good morning", "the night is long", "we read a book", "where is the river", "ten small boats", "come in")
ARABIC = ("صباح الخير", "الليل طويل", "نقرأ كتابا", "أين النهر", "عشرة قوارب صغيرة", "تفضل بالدخول")
FEW = {
    "training.max_steps": 2, "training.warmup_steps": 1, "training.eval_steps": 2, "training.use_cpu": "true",
    "data.seconds_per_batch": 4, "evaluation.generation_max_length": 6,
}  # fmt: skip


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command that a page shows after a `$`."""
    found = []
    for block in CONSOLE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append(shlex.split(line[2:]))
    return found


def recordings(folder: Path, texts: tuple[str, ...], first: int, suffix: str = "wav") -> Iterator[tuple[str, str]]:
    """Write a recording for each text; yield names and texts."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts, first):
        name = f"clip-{number:03d}.{suffix}"
        soundfile.write(folder / name, synthetic_speech(0.8, seed=number), 16_000)
        yield name, text


def librispeech(folder: Path) -> None:
    for part, first in (("train-clean-100", 0), ("dev-clean", 10), ("test-clean", 20)):
        chapter = folder / "LibriSpeech" / part / f"{first}" / "7"
        lines = []
        for name, text in recordings(chapter, tuple(f"{text} {part}".upper() for text in ENGLISH), first, "flac"):
            number = f"{first}-7-{name[5:8]}"
            (chapter / name).rename(chapter / f"{number}.flac")
            lines.append(f"{number} {text.replace('-', ' ')}")
        (chapter / f"{first}-7.trans.txt").write_text("\n".join(lines) + "\n")


def covost2(folder: Path) -> None:
    for part, first in (("train", 0), ("dev", 10), ("test", 20)):
        rows = ["path\tsentence\ttranslation\tclient_id"]
        for (name, text), translation in zip(
            recordings(folder / "covost2/ar/clips", ARABIC, first, "mp3"), ENGLISH, strict=True
        ):
            rows.append(f"{name}\t{text} {first}\t{translation} {part}\tspeaker-{part}")
        table = folder / f"covost2/ar/covost_v2.ar_en.{part}.tsv"
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")


def common_voice(folder: Path) -> None:
    for part, first in (("train", 0), ("dev", 10), ("test", 20)):
        rows = ["client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tgender\tlocale"]
        for name, text in recordings(folder / "common-voice/ar/clips", ARABIC, first, "mp3"):
            rows.append(f"speaker-{part}\t{name}\t{name}\t{text}\t2\t0\t\t\tar")
        (folder / f"common-voice/ar/{part}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def an_evening(folder: Path) -> None:
    for part, word, first in (("recordings", "morning", 1), ("test", "evening", 30)):
        for number, (name, text) in enumerate(list(recordings(folder / part, ARABIC, first)), 1):
            (folder / part / name).rename(folder / part / f"{word}-{number:02d}.wav")
            (folder / part / f"{word}-{number:02d}.txt").write_text(f"{text} {first}\n", encoding="utf-8")


def multilingual_bert(folder: Path) -> None:
    """A small BERT that writes Arabic letters, digits and Latin ones."""
    letters = sorted({*"".join(ARABIC), *"abcdefghijklmnopqrstuvwxyz0123456789"} - {" "})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=128, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoints that the pages name."""
    folder: Path = tmp_path_factory.mktemp("checkpoints")
    known = runpy.run_path(str(Path(__file__).with_name("page_checkpoints.py")))
    makers = {
        "facebook/wav2vec2-base": known["_wav2vec2"],
        "facebook/wav2vec2-xls-r-300m": known["_hubert"],
        "google-bert/bert-base-uncased": known["_bert"],
        "facebook/bart-base": known["_bart"],
    }
    for name, make in makers.items():
        torch.manual_seed(0)
        (folder / name).mkdir(parents=True)
        make(folder / name, False)
    multilingual_bert(folder / "google-bert/bert-base-multilingual-cased")
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *"abcdefghijklmnopqrstuvwxyz"]
    transformers.BartTokenizer(vocab={x: i for i, x in enumerate(letters)}, merges=[]).save_pretrained(
        folder / "facebook/bart-base"
    )
    return folder


def served(serve: list[str], curl: list[str]) -> dict[str, Any]:
    """Start a server by its command, on a free port, and return what the command of a client prints."""
    server = subprocess.Popen(
        [sys.executable, "-m", *serve, "--port", "0"], stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        address = next(found[1] for line in lines if (found := re.search(r"Listening on (http://\S+?)\.?$", line)))
        client = [word.replace("http://127.0.0.1:8000", address) for word in curl]
        done = subprocess.run([*client, "--silent"], capture_output=True, text=True, check=True)
        found_json: dict[str, Any] = json.loads(done.stdout)
        return found_json
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        if server.stderr is not None:
            server.stderr.close()


PAGES = {
    "recipes/librispeech/README.md": librispeech,
    "recipes/covost2/README.md": covost2,
    "recipes/common-voice/README.md": common_voice,
    "docs/evening.md": an_evening,
    "docs/ar/evening.md": an_evening,
}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(
    page: str, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in os.listdir(checkpoints):
        (tmp_path / name).symlink_to(checkpoints / name)
    PAGES[page](tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shown = commands(ROOT / page)
    assert {"train", "evaluate"} <= {words[1] for words in shown}
    for program, *words in shown:
        if program == "curl" or words[0] == "serve":
            continue  # both together, below
        assert program == "dragoman", words
        words = [word.replace("RECIPES", str(ROOT / "recipes")) for word in words]
        if words[0] == "train":
            words += [word for name, value in FEW.items() for word in ("--set", f"{name}={value}")]
            with torch.enable_grad():
                code = main(words)
        else:
            code = main([*words, *(["--max_new_tokens", "6"] if words[0] == "evaluate" else [])])
        assert code == 0, (words, capsys.readouterr())
        if words[0] == "evaluate":
            assert "6 items" in capsys.readouterr().out
    serving = [words for words in shown if words[1] == "serve" or words[0] == "curl"]
    if serving:
        assert served(*serving).keys() >= {"text"}
    logs = list(tmp_path.glob("*/log.jsonl"))
    assert len(logs) == 1
    assert [json.loads(line)["step"] for line in logs[0].read_text().splitlines()] == [1, 2, 2]


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*/config.yaml")), ids=lambda path: path.parent.name)
def test_configurations_of_recipes_are_whole(path: Path) -> None:
    read_config(path).check()


def test_every_recipe_is_listed() -> None:
    table = (ROOT / "recipes/README.md").read_text()
    assert {path.parent.name for path in ROOT.glob("recipes/*/config.yaml")} == set(
        re.findall(r"^\| \[([\w-]+)\]", table, re.MULTILINE)
    )


def load(path: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of a script of a recipe, which finds the scripts beside it."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    monkeypatch.syspath_prepend(str((ROOT / "recipes" / path).parent))
    for name in ("clips", "prepare"):  # both recipes have scripts of these names
        monkeypatch.delitem(sys.modules, name, raising=False)
    return runpy.run_path(str(ROOT / "recipes" / path))


def test_the_report_of_a_recipe_compares_on_the_same_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load("report.py", monkeypatch)
    (tmp_path / "reports").mkdir()
    figure = {"value": 10.0, "low": 5.0, "high": 15.0}
    for name, wrong in {"warm": 0, "cold": 12, "whisper": 1}.items():
        results = [{"id": str(i), "reference": "a b", "hypothesis": "a c" if i < wrong else "a b"} for i in range(20)]
        if name == "cold":
            results.reverse()  # items are found by their ids
        found = {"items": 20, "seconds": 40.0, "rtfx": 3.0, "options": {}, "normalizer": "basic", "results": results}
        (tmp_path / f"reports/{name}.json").write_text(json.dumps({**found, "figures": {"wer": figure, "cer": figure}}))
    rows = [made["Row"](name, name.title(), against="warm" if name == "cold" else None) for name in ("warm", "cold")]
    table = made["report"](tmp_path, [*rows, made["Row"]("absent", "Absent")], ("wer", "cer"))
    content = json.loads((tmp_path / "reports/report.json").read_text())
    assert content["comparisons"].keys() == {"cold"}
    assert content["comparisons"]["cold"]["difference"] == pytest.approx(-30.0)
    assert content["comparisons"]["cold"]["p_value"] < 0.01
    assert "| Cold | 10.0 (5.0-15.0) | 10.0 (5.0-15.0) |" in table
    assert "Absent" not in table


@pytest.mark.network
def test_amazon_queen_is_prepared_once_and_tests_on_new_texts_and_speakers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = load("amazon-queen/prepare.py", monkeypatch)
    prepare["main"](tmp_path)
    sets = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "valid", "test", "silent-test")
    }
    assert [len(rows) for rows in sets.values()] == [3504, 134, 359, 359]
    texts = {name: {prepare["normalize_english"](row["text"]) for row in rows} for name, rows in sets.items()}
    assert not texts["train"] & texts["valid"]
    assert not texts["test"] & (texts["train"] | texts["valid"])
    speakers = {name: {row["speaker"] for row in rows} for name, rows in sets.items()}
    assert not speakers["test"] & (speakers["train"] | speakers["valid"])
    assert {row["audio"] for row in sets["silent-test"]} == {"silence.wav"}
    assert not soundfile.read(tmp_path / "silence.wav")[0].any()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    prepare["main"](tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.network
@pytest.mark.nightly
def test_fish_fillets_is_prepared_by_level_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = load("fish-fillets/prepare.py", monkeypatch)
    prepare["main"](tmp_path)
    sets = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("train", "valid", "test")
    }
    levels = {name: {row["id"].split("/")[1] for row in rows} for name, rows in sets.items()}
    assert not levels["train"] & levels["test"]
    assert not levels["valid"] & (levels["train"] | levels["test"])
    assert not set().union(*levels.values()) & load("fish-fillets/clips.py", monkeypatch)["KEPT_APART"]
    for rows in sets.values():
        assert {row["language"] for row in rows} == {"cs", "nl"}
    texts = {name: {prepare["normalize_english"](row["translation"]) for row in rows} for name, rows in sets.items()}
    assert not texts["test"] & (texts["train"] | texts["valid"])
    monkeypatch.chdir(tmp_path)
    changes = {
        "data.train": "valid.jsonl", "training.max_steps": 3, "training.align_steps": 1, "training.eval_steps": 9,
        "training.per_device_train_batch_size": 2, "evaluation.max_eval_samples": 2,
        "evaluation.generation_max_length": 4,
    }  # fmt: skip
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
    with torch.enable_grad():
        assert main(["train", str(ROOT / "recipes/fish-fillets/config.yaml"), *words]) == 0
    assert (tmp_path / "runs/main/best/model.safetensors").is_file()
