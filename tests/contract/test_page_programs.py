"""The programs of the documentation page of `transformers`, from docs/page.md: their results here and there."""

import json
import os
import runpy
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import dragoman

ROOT = Path(__file__).parents[2]
page = runpy.run_path(str(ROOT / "benchmarks/page_programs.py"))
write = runpy.run_path(str(Path(__file__).with_name("page_checkpoints.py")))["write"]
TITLES = [title for title, _ in page["ROWS"]]
RANDOM, BERT, GPT2, BART, MBART, TRANSLATION, TRAINING, AFTER = range(len(TITLES))
TRANSLATOR = "facebook/wav2vec2-xls-r-300m-en-to-15"


@pytest.fixture
def place(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the checkpoints, without access to the hub."""
    shutil.copytree(hub, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return tmp_path


def run(row: int, library: str = "dragoman") -> Any:
    """Run a program; the warnings of `transformers`, and of labels that begin with the start token, are ignored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*see the start token twice")
        if library == "transformers":
            warnings.simplefilter("ignore")
        return page["run"](page["programs"](library)[row])


@pytest.mark.parametrize("row", range(len(TITLES)), ids=TITLES)
def test_comparison_is_current(row: int, place: Path) -> None:
    """Both cells of the table, measured again. Written by `python benchmarks/page_programs.py --write`."""
    text = (ROOT / "docs/comparison.md").read_text().split(page["START"])[1].split(page["END"])[0]
    head, _, *rows = text.strip().split("\n")
    assert f"transformers {transformers.__version__}" in head
    found = [page["outcome"](page["programs"](library)[row]) for library in ("transformers", "dragoman")]
    assert rows[row] == f"| {TITLES[row]} | {found[0]} | {found[1]} |"
    assert found[1] == "works"


def test_warm_start_reports_new_weights(place: Path) -> None:
    """Cross-attention and bridge, nothing else; BART's and mBART's decoders have their own cross-attention."""
    for row in BERT, GPT2:
        model = run(row)["model"]
        assert {name.split(".")[0] for name in model.load_report.fresh} == {"decoder", "bridge"}
        assert all("cross_attn" in name or "bridge" in name for name in model.load_report.fresh)
        assert len([name for name in model.load_report.fresh if "cross_attn" in name]) == 2 * 10
    for row in BART, MBART:
        assert run(row)["model"].load_report.fresh == ["bridge.proj.weight", "bridge.proj.bias"]


def test_warm_start_is_in_evaluation_mode(place: Path) -> None:
    model = run(BERT)["model"]
    assert not any(module.training for module in model.modules())


def test_translation_equals_transformers(place: Path) -> None:
    """The same ids and text from the same beams, for a pickle of 2021 with its complete configuration."""
    ours, theirs = run(TRANSLATION), run(TRANSLATION, "transformers")
    assert ours["input_values"].tolist() == theirs["input_values"].tolist()
    assert ours["generated_ids"].tolist() == theirs["generated_ids"].tolist()
    assert ours["generated_text"] == theirs["generated_text"]
    assert ours["generated_text"].strip()
    options = ours["model"].generation_config
    assert (options.num_beams, options.max_length, options.early_stopping) == (5, 200, True)


def test_generation_options_are_read_from_a_config_of_2021(place: Path) -> None:
    """Before generation_config.json, config.json held the options; the defaults of a part must not override them."""
    before = dragoman.SpeechEncoderDecoderModel.from_pretrained(TRANSLATOR).generation_config.to_dict()
    (place / TRANSLATOR / "generation_config.json").unlink()
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(TRANSLATOR)
    after = model.generation_config.to_dict()
    assert {name: after[name] for name in before} == before


def test_training_equals_transformers(place: Path) -> None:
    """From the same checkpoints with equal new tensors: the same loss, also for labels that begin with the start."""
    ours, theirs = run(TRAINING), run(TRAINING, "transformers")
    assert ours["labels"].tolist() == theirs["labels"].tolist()
    assert ours["labels"][0, 0] == ours["tokenizer"].cls_token_id
    theirs["model"].eval().save_pretrained("theirs")
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained("theirs")
    model.config.decoder_start_token_id, model.config.pad_token_id = ours["tokenizer"].cls_token_id, 0
    wanted = theirs["model"](input_values=theirs["input_values"], labels=theirs["labels"]).loss
    with pytest.warns(UserWarning, match="see the start token twice"):
        found = model(input_values=ours["input_values"], labels=ours["labels"]).loss
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_ids_set_for_training_apply_to_generation_and_both_files(place: Path) -> None:
    names = run(AFTER)
    saved = [json.loads(Path("page-model", name).read_text()) for name in ("config.json", "generation_config.json")]
    for content in saved:
        assert content["decoder_start_token_id"] == names["tokenizer"].cls_token_id
        assert content["pad_token_id"] == names["tokenizer"].pad_token_id
    again = dragoman.SpeechEncoderDecoderModel.from_pretrained("page-model")
    assert again.generate(names["input_values"], max_new_tokens=10).tolist() == names["generated_ids"].tolist()


def test_misprint_of_the_page_gets_a_helpful_error(place: Path) -> None:
    tokenizer = dragoman.AutoTokenizer.from_pretrained("google-bert/bert-base-uncased")
    with pytest.raises(AttributeError, match=r'[Dd]id you mean "cls_token_id"\?'):
        tokenizer.cls_token_  # noqa: B018 (the misprint itself)


def test_random_initialisation_has_the_base_sizes(place: Path) -> None:
    names = run(RANDOM)
    with torch.device("meta"):
        theirs = transformers.SpeechEncoderDecoderModel(
            transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
                transformers.Wav2Vec2Config(), transformers.BertConfig()
            )
        )
    assert names["model"].num_parameters() == theirs.num_parameters() == 232_252_858
    assert names["model"].training
    assert not names["config_decoder"].add_cross_attention
    assert not names["config_decoder"].is_decoder


FULL_SIZE = {
    BERT: ("facebook/hubert-large-ll60k", "google-bert/bert-base-uncased"),
    TRANSLATION: (TRANSLATOR,),
}


@pytest.mark.nightly
@pytest.mark.parametrize("row", FULL_SIZE, ids=[TITLES[row] for row in FULL_SIZE])
def test_published_sizes(row: int, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shapes of the real checkpoints: 0.4 and 3.2 GB on disk, and the same in memory."""
    write(tmp_path, FULL_SIZE[row], full=True)
    shutil.copy(hub / "speech.wav", tmp_path)
    monkeypatch.chdir(tmp_path)
    names = run(row)
    if row == TRANSLATION:
        assert names["generated_ids"][0, :2].tolist() == [2, 250003]
        assert os.path.getsize(tmp_path / TRANSLATOR / "pytorch_model.bin") == pytest.approx(3.17e9, rel=0.01)
    else:
        assert names["model"].bridge.proj.weight.shape == (768, 1024)
        assert names["model"].num_parameters() > 4.3e8
