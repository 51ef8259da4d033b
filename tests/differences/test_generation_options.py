"""What `model.generation_config` shows is in force: inherited, unset with `None`, saved, and read back."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import dragoman
from dragoman import GenerationConfig, GenerationError, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
FORCED = 9


@pytest.fixture(params=["SpeechEncoderDecoderModel", "FlaxSpeechEncoderDecoderModel"], ids=["torch", "jax"])
def bart(request: pytest.FixtureRequest) -> Any:
    """A model whose ids are those of its decoder; the last token is forced."""
    torch.manual_seed(0)
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config("bart", forced_eos_token_id=FORCED)}
    return getattr(dragoman, request.param)(config=SpeechEncoderDecoderConfig(**parts))


def last_token(model: Any, **options: Any) -> int:
    """The token at the fourth and last place of a transcript, which cannot end before."""
    speech: Any = np.random.default_rng(0).standard_normal((1, 800), np.float32)
    if model.backend == "torch":
        speech = torch.from_numpy(speech)
    steps = {"return_dict_in_generate": True, "output_scores": True}  # in JAX, a search that compiles little
    return int(np.asarray(model.generate(speech, max_length=4, **steps, **options).sequences)[0, -1])


def test_ids_of_the_decoder_are_shown_unset_and_saved(bart: Any, tmp_path: Path) -> None:
    options = bart.generation_config
    assert (options.decoder_start_token_id, options.eos_token_id, options.forced_eos_token_id) == (2, 2, FORCED)
    assert last_token(bart, suppress_tokens=[2]) == FORCED
    assert last_token(bart, suppress_tokens=[2], forced_eos_token_id=None) != FORCED
    bart.save_pretrained(tmp_path / "forced")
    options.forced_eos_token_id = None
    if bart.backend == "torch":
        assert last_token(bart, suppress_tokens=[2]) != FORCED
    bart.save_pretrained(tmp_path / "free")
    for name, forced in ("forced", FORCED), ("free", None):
        theirs = transformers.GenerationConfig.from_pretrained(tmp_path / name)
        assert (theirs.forced_eos_token_id, theirs.decoder_start_token_id, theirs.pad_token_id) == (forced, 2, 1)
        again = type(bart).from_pretrained(tmp_path / name)
        assert again.generation_config.forced_eos_token_id == forced
        if again.backend == "torch":  # JAX would compile every step again
            assert (last_token(again, suppress_tokens=[2]) == FORCED) == (forced is not None)


@pytest.mark.parametrize("name", ["eos_token_id", "pad_token_id", "bos_token_id", "forced_eos_token_id"])
def test_none_wins_over_the_decoder_and_is_kept(build: Any, tmp_path: Path, name: str) -> None:
    model = build(decoder="bart", decoder_start_token_id=None, pad_token_id=None, eos_token_id=None)
    setattr(model.generation_config, name, None)
    assert getattr(model.generation_config, name) is None
    model.save_pretrained(tmp_path)
    assert name not in json.loads((tmp_path / "generation_config.json").read_text())
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert getattr(again.generation_config, name) is None
    assert again.prepare_decoder_input_ids_from_labels(torch.tensor([[5, -100]])).tolist() == [[2, 5]]


def test_unset_end_token_ends_no_sequence(build: Any, speech: Speech) -> None:
    model = build(decoder="bart")
    model.generation_config.eos_token_id = None
    assert model.generate(speech(), max_new_tokens=5, sequence_bias={(2,): 1e4}).tolist() == [[3, 2, 2, 2, 2, 2]]


def test_unset_start_token_is_missed(build: Any, speech: Speech) -> None:
    model = build(decoder="bart")
    model.generation_config.decoder_start_token_id = None
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == model.generation_config.bos_token_id == 0
    model.generation_config.bos_token_id = None
    with pytest.raises(GenerationError, match="has to be defined"):
        model.generate(speech(), max_new_tokens=2)


def test_file_wins_for_generate_and_config_json_for_training(build: Any, speech: Speech, tmp_path: Path) -> None:
    """As in `transformers`, where the two files disagree."""
    build().save_pretrained(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"decoder_start_token_id": 6, "eos_token_id": 2}))
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == 6
    assert model.prepare_decoder_input_ids_from_labels(torch.tensor([[5, 6]])).tolist() == [[3, 5]]
    assert model.generation_config.pad_token_id is None
    model.config.decoder_start_token_id = 7  # set for training, after loading
    assert model.generation_config.decoder_start_token_id == 7
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == 7


@pytest.mark.parametrize("content", ["{}", '{"num_beams": 2, "transformers_version": "5.0.0"}'])
def test_ids_missing_from_a_file_come_from_config_json(
    build: Any, speech: Speech, tmp_path: Path, content: str
) -> None:
    """`transformers` refuses to generate with such a folder, which its page's training program writes."""
    build().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(content)
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    options = model.generation_config
    assert (options.decoder_start_token_id, options.pad_token_id, options.eos_token_id) == (3, 1, 2)
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == 3


def test_options_set_on_the_configuration_are_shown_and_the_last_one_wins(
    build: Any, speech: Speech, tmp_path: Path
) -> None:
    """`transformers` 4 took them; 5 refuses to generate or save."""
    model = build()
    model.config.num_beams = 3
    assert model.generation_config.num_beams == 3
    assert model.generate(speech(), max_new_tokens=2, num_return_sequences=3).shape[0] == 3
    model.generation_config.num_beams = 2
    assert model.generation_config.num_beams == 2
    model.config.max_length = 7
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (2, 7)
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path).generation_config
    assert (again.num_beams, again.max_length) == (2, 7)


def test_options_given_in_a_call_win_even_where_they_are_the_defaults(build: Any, speech: Speech) -> None:
    model = build()
    model.generation_config.update(num_beams=3, num_return_sequences=3, suppress_tokens=[5])
    calls: list[tuple[dict[str, Any], int]] = [
        ({}, 3),
        ({"generation_config": GenerationConfig(num_return_sequences=1)}, 1),
        ({"generation_config": GenerationConfig(num_return_sequences=None)}, 3),
        ({"num_return_sequences": None}, 1),
        ({"num_return_sequences": None, "num_beams": None}, 1),
    ]
    for call, rows in calls:
        assert model.generate(speech(), max_new_tokens=2, **call).shape[0] == rows
    often = {"max_new_tokens": 2, "sequence_bias": {(5,): 1e4}, "num_return_sequences": 1}
    assert 5 not in model.generate(speech(), **often)
    assert 5 in model.generate(speech(), suppress_tokens=None, **often)


def test_none_in_the_call_turns_the_choice_of_the_most_likely_tokens_off(build: Any, speech: Speech) -> None:
    model, call = build(), {"do_sample": True, "seed": 1, "max_new_tokens": 12, "temperature": 50.0}
    everything = model.generate(speech(), top_k=0, **call).tolist()
    assert model.generate(speech(), top_k=None, **call).tolist() == everything
    model.generation_config.top_k = 2
    assert model.generate(speech(), **call).tolist() != everything
    assert model.generate(speech(), top_k=None, **call).tolist() == everything


def test_suppressed_tokens_of_a_decoder_are_inherited() -> None:
    whisper = tiny_config("whisper", suppress_tokens=[4], begin_suppress_tokens=[5, 6])
    model = SpeechEncoderDecoderModel(
        config=SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=whisper)
    )
    options = model.generation_config
    assert (options.suppress_tokens, options.begin_suppress_tokens) == ([4], [5, 6])


@pytest.mark.parametrize("place", ["joint", "decoder"])
def test_options_of_config_json_without_the_other_file(build: Any, tmp_path: Path, place: str) -> None:
    build().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (config if place == "joint" else config["decoder"]).update(num_beams=4, max_length=20, length_penalty=0.5)
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = SpeechEncoderDecoderModel.from_pretrained(tmp_path).generation_config
    theirs = transformers.SpeechEncoderDecoderModel.from_pretrained(tmp_path).generation_config
    names = ("num_beams", "length_penalty", "decoder_start_token_id", "eos_token_id", "pad_token_id")
    assert [getattr(options, name) for name in names] == [getattr(theirs, name) for name in names]
    assert options.max_length is None  # every old file has this default of `transformers`


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],  # noqa: S301
    ids=["copied", "pickled"],
)
def test_copy_of_a_model_follows_its_own_configuration(build: Any, copied: Callable[[Any], Any]) -> None:
    model = build(decoder="bart")
    model.generation_config.forced_eos_token_id = None
    model.generation_config.num_beams = 3
    other = copied(model)
    other.config.pad_token_id = 5
    assert other.generation_config.pad_token_id == 5
    assert (other.generation_config.forced_eos_token_id, other.generation_config.num_beams) == (None, 3)
    other.config.decoder_start_token_id = 7
    other.generation_config.eos_token_id = 8
    assert (other.generation_config.decoder_start_token_id, other.config.eos_token_id) == (7, 8)
    assert (model.generation_config.decoder_start_token_id, model.config.eos_token_id) == (3, 2)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_of_the_options_is_separate(build: Any, copied: Callable[[Any], Any]) -> None:
    model = build(decoder="bart")
    options = copied(model.generation_config)
    assert options == model.generation_config
    options.forced_eos_token_id, options.eos_token_id = None, 8
    assert (model.generation_config.forced_eos_token_id, model.config.eos_token_id) == (2, 2)


def test_other_configuration_brings_its_ids(build: Any, speech: Speech) -> None:
    model = build()
    model.config = model.config.copy(decoder_start_token_id=6)
    model.config.decoder_start_token_id = 7
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == 7
