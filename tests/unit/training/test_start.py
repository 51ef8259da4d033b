from pathlib import Path

import pytest
import torch
import transformers

from dragoman import AutoProcessor, ConfigError, ModelNotFoundError, SpeechEncoderDecoderModel
from dragoman.cli import main
from dragoman.training import init

from .conftest import write_text_model


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_init_writes_a_complete_folder_and_reports_what_is_new(checkpoints, tmp_path, capsys):
    out = tmp_path / "start"
    assert run("init", *checkpoints, "-o", out) == 0
    told = capsys.readouterr().out
    assert "tensors loaded from" in told
    assert "need training: " in told
    assert "decoder.stack.layers.{0-1}.cross_attn" in told
    assert "bridge.proj.weight" in told
    model = SpeechEncoderDecoderModel.from_pretrained(out)
    assert [model.config.special_id(f"{name}_token_id") for name in ("decoder_start", "eos", "pad")] == [2, 3, 0]
    processor = AutoProcessor.from_pretrained(out)
    assert processor.tokenizer("ab").input_ids[0] == 2
    theirs = transformers.SpeechEncoderDecoderModel.from_pretrained(out)
    assert theirs.config.decoder_start_token_id == 2


def test_new_tensors_follow_the_seed_and_leave_the_caller_s_generator_alone(checkpoints, tmp_path):
    before = torch.get_rng_state()
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        init(*checkpoints, tmp_path / name, seed=seed)
    assert torch.get_rng_state().equal(before)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_fields_of_the_configuration(checkpoints, tmp_path):
    assert run("init", *checkpoints, "-o", tmp_path / "m", "--set", "encoder_layerdrop=0.25") == 0
    assert SpeechEncoderDecoderModel.from_pretrained(tmp_path / "m").config.encoder.layerdrop == 0.25


def test_a_model_is_not_replaced_unless_asked_for(checkpoints, tmp_path, capsys):
    out = tmp_path / "start"
    init(*checkpoints, out)
    assert run("init", *checkpoints, "-o", out) == 2
    assert "--overwrite_output_dir" in capsys.readouterr().err
    assert run("init", *checkpoints, "-o", out, "--overwrite_output_dir") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 40}, "The tokenizer has 56 tokens, but the decoder only 40"),
        ({}, "no .*preprocessor_config"),
    ],
)
def test_nothing_is_written_when_the_parts_do_not_fit(checkpoints, tmp_path, change, message):
    encoder, _ = checkpoints
    decoder = write_text_model(tmp_path / "small", **change)
    pair = (encoder, decoder) if change else (decoder, decoder)
    with pytest.raises((ConfigError, ModelNotFoundError), match=message):
        init(*pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_needed(checkpoints, capsys):
    assert run("init", *checkpoints) == 2
    assert "-o FOLDER" in capsys.readouterr().err
    assert not list(Path().glob("config.json"))
