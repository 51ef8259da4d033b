import copy
import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.errors import GenerationError, ModelNotFoundError
from dragoman.generation.options import GenerationConfig
from dragoman.spec.ids import SpecialIds
from dragoman.testing import tiny_config


def test_defaults_equal_transformers_except_the_length() -> None:
    config = GenerationConfig()
    theirs = transformers.GenerationConfig._get_default_generation_params()
    ours = {name: getattr(config, name) for name in theirs if hasattr(config, name)}
    assert ours == {name: theirs[name] for name in ours} | {"max_length": None}
    assert len(ours) > 20


def test_special_ids_are_shared_with_the_model() -> None:
    ids = SpecialIds(eos_token_id=3)
    config = GenerationConfig(num_beams=2)
    config.special_ids = ids
    assert config.eos_token_id == 3
    config.pad_token_id = 7
    assert ids.pad_token_id == 7


def test_replace_does_not_change_shared_ids() -> None:
    config = GenerationConfig(eos_token_id=3)
    changed = config.replace(eos_token_id=5, num_beams=4)
    assert (changed.eos_token_id, changed.num_beams) == (5, 4)
    assert (config.eos_token_id, config.num_beams) == (3, 1)


@pytest.mark.parametrize("call", [lambda **o: GenerationConfig(**o), lambda **o: GenerationConfig().replace(**o)])
def test_unknown_option_suggests_the_nearest(call: Any) -> None:
    with pytest.raises(GenerationError, match=r'`num_beam` is not one. Did you mean "num_beams"\?'):
        call(num_beam=3)


def test_update_sets_in_place_and_returns_unknown_options() -> None:
    config = GenerationConfig(eos_token_id=3)
    ids = config.special_ids
    assert config.update(num_beams=3, pad_token_id=1, colour="red") == {"colour": "red"}
    assert (config.num_beams, config.pad_token_id, config.eos_token_id) == (3, 1, 3)
    assert config.special_ids is ids
    with pytest.raises(GenerationError, match="num_beams"):
        config.update(temperature=0.5, num_beams=0)
    assert config.temperature == 1.0


def test_update_with_defaults_only_sets_options_that_are_not_set() -> None:
    config = GenerationConfig(num_beams=3, eos_token_id=2)
    config.update(defaults_only=True, num_beams=5, max_length=9, top_k=3, eos_token_id=4, pad_token_id=1)
    assert (config.num_beams, config.max_length, config.top_k) == (3, 9, 3)
    assert (config.eos_token_id, config.pad_token_id) == (2, 1)


def test_none_restores_the_default() -> None:
    assert GenerationConfig(num_beams=None).num_beams == 1
    assert GenerationConfig(num_beams=3).replace(num_beams=None, length_penalty=None).num_beams == 1
    config = GenerationConfig(num_beams=3)
    config.num_beams = None
    assert config == GenerationConfig()
    assert GenerationConfig(max_length=9).replace(max_length=None).max_length is None


def test_length_zero_is_not_written() -> None:
    assert GenerationConfig(max_length=0).to_dict() == {}


def test_options_of_transformers_are_converted() -> None:
    theirs = transformers.GenerationConfig(num_beams=4, eos_token_id=[1, 2], max_length=20)
    ours = GenerationConfig.of(theirs)
    assert (ours.num_beams, ours.eos_token_id, ours.max_length) == (4, [1, 2], 20)
    assert GenerationConfig.of(ours) is ours


@pytest.mark.parametrize("value", [None, {"num_beams": 2}, "folder", 3])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(GenerationError, match="must be a GenerationConfig, but got a"):
        GenerationConfig.of(value)


def test_over_keeps_options_of_the_base_that_are_not_set() -> None:
    base = GenerationConfig(num_beams=5, eos_token_id=2, length_penalty=0.5)
    merged = GenerationConfig(max_new_tokens=9, length_penalty=2.0).over(base)
    assert (merged.num_beams, merged.max_new_tokens, merged.length_penalty, merged.eos_token_id) == (5, 9, 2.0, 2)
    assert base.length_penalty == 0.5
    assert GenerationConfig(num_beams=1, length_penalty=None, eos_token_id=None).over(base) == base.replace(num_beams=1)


def test_options_about_speed_are_kept_without_effect() -> None:
    config = GenerationConfig(cache_implementation="static", num_beams=2)
    assert config.replace(num_assistant_tokens_schedule="constant").to_dict() == {
        "cache_implementation": "static",
        "num_assistant_tokens_schedule": "constant",
        "num_beams": 2,
    }


def test_unknown_attribute_is_kept_and_saved() -> None:
    config = GenerationConfig()
    config.house_style = "plain"
    assert config.house_style == "plain"
    assert GenerationConfig.from_dict(json.loads(config.to_json_string())).house_style == "plain"
    with pytest.warns(UserWarning, match=r'`num_beam` is no option of `generate`. Did you mean "num_beams"'):
        config.num_beam = 4
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = config.other


BAD = [
    ("num_beams", 0), ("num_beams", 2.0), ("num_beams", True), ("num_return_sequences", -1),
    ("max_new_tokens", 0), ("max_length", 1.5), ("min_length", -1), ("top_k", -1), ("no_repeat_ngram_size", -2),
    ("temperature", 0), ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")),
    ("temperature", "hot"), ("repetition_penalty", 0.0), ("length_penalty", 1e3),
    ("top_p", 1.2), ("min_p", -0.1),
    ("typical_p", 0.0), ("epsilon_cutoff", 1.0), ("eta_cutoff", -0.5), ("early_stopping", "always"), ("do_sample", 1),
    ("pad_token_id", -1), ("pad_token_id", [1]), ("eos_token_id", []), ("eos_token_id", [1, -2]),
    ("eos_token_id", "</s>"), ("suppress_tokens", 5), ("suppress_tokens", "ab"), ("begin_suppress_tokens", [1.5]),
    ("bad_words_ids", [1, 2]), ("bad_words_ids", [[]]), ("sequence_bias", {(1,): float("inf")}),
    ("sequence_bias", [[[1], 1.0, 2.0]]), ("sequence_bias", "x"), ("exponential_decay_length_penalty", (1,)),
    ("exponential_decay_length_penalty", (-1, 1.1)), ("exponential_decay_length_penalty", (1, 0.0)),
    ("output_scores", 1), ("max_time", 0), ("stop_strings", [""]), ("stop_strings", 3),
    # not supported here
    ("num_beam_groups", 2), ("penalty_alpha", 1.5), ("force_words_ids", [[]]), ("force_words_ids", [1]),
    ("constraints", [1]), ("guidance_scale", 1.5),
    ("dola_layers", "high"), ("top_h", 0.5), ("encoder_repetition_penalty", 1.2), ("prompt_lookup_num_tokens", 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_invalid_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(GenerationError) as caught:
        GenerationConfig(**{name: value})
    assert f"`{name}`" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_all_errors_are_reported_together() -> None:
    with pytest.raises(GenerationError) as caught:
        GenerationConfig(num_beams=0, temperature=-1, top_p=3)
    assert all(f"`{name}`" in str(caught.value) for name in ("num_beams", "temperature", "top_p"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_return_sequences": 2}, "greedy search, which finds one sequence, but is 2"),
        ({"num_return_sequences": 3, "num_beams": 2}, r"at most `num_beams` \(2\), but is 3"),
        ({"num_beams": 5, "num_beam_groups": 2}, r"multiple of `num_beam_groups` \(2\), but is 5"),
        ({"num_beams": 4, "num_beam_groups": 2, "do_sample": True}, "not for sampling"),
        ({"num_beams": 4, "diversity_penalty": 0.5}, "`num_beam_groups` is 1"),
        ({"penalty_alpha": 0.5, "num_beams": 2}, "contrastive search, which needs `num_beams=1`"),
        ({"penalty_alpha": 0.5, "top_k": 1}, "a `top_k` of at least 2"),
        ({"force_words_ids": [[1]]}, "constrained beam search, which needs `num_beams` of at least 2"),
        ({"forced_bos_token_id": 5, "suppress_tokens": [4, 5]}, r"`forced_bos_token_id` \(5\) is also in"),
        ({"forced_eos_token_id": [5, 4], "suppress_tokens": [4, 5]}, r"`forced_eos_token_id` \(5, 4\) is also in"),
    ],
)
def test_invalid_combination_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        GenerationConfig(**options)


def test_validate_checks_later_changes() -> None:
    config = GenerationConfig()
    config.num_beams = -1
    with pytest.raises(GenerationError, match="`num_beams` must be a whole number of at least 1, but is -1"):
        config.validate()


# Written by `transformers` 4 for a BART model, shortened; with unknown keys and metadata.
RELEASE_4 = {
    "_from_model_config": True, "bos_token_id": 0, "decoder_start_token_id": 2, "eos_token_id": 2,
    "forced_eos_token_id": 2, "max_length": 142, "num_beams": 4, "no_repeat_ngram_size": 3, "early_stopping": True,
    "pad_token_id": 1, "transformers_version": "4.40.2", "num_beam_groups": 1, "encoder_no_repeat_ngram_size": 0,
    "top_h": None, "some_later_option": {"a": 1},
}  # fmt: skip


def test_reads_a_file_of_transformers_4_and_writes_changed_options(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps(RELEASE_4))
    config = GenerationConfig.from_json_file(file)
    assert (config.num_beams, config.eos_token_id, config.forced_eos_token_id, config.max_length) == (4, 2, 2, 142)
    assert config.extra == {"some_later_option": {"a": 1}}
    config.validate()
    again = tmp_path / "again.json"
    config.to_json_file(again)
    dropped = ("_from_model_config", "transformers_version", "num_beam_groups", "encoder_no_repeat_ngram_size", "top_h")
    assert json.loads(again.read_text()) == {k: v for k, v in RELEASE_4.items() if k not in dropped}
    assert GenerationConfig.from_json_file(again).to_json_string() == again.read_text()


def test_file_round_trip_through_transformers(tmp_path: Path) -> None:
    options = {
        "num_beams": 3, "eos_token_id": [2, 5], "suppress_tokens": [7], "length_penalty": 0.3, "max_new_tokens": 8,
        "sequence_bias": [[[4, 5], 1.5]], "forced_bos_token_id": 9, "do_sample": True, "min_p": 0.1,
    }  # fmt: skip
    transformers.GenerationConfig(**options).save_pretrained(tmp_path)
    read = GenerationConfig.from_json_file(tmp_path / "generation_config.json")
    assert {name: getattr(read, name) for name in options} == options
    assert read.extra == {}
    read.to_json_file(tmp_path / "generation_config.json")
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert {name: getattr(theirs, name) for name in options} == options


def test_nulls_in_a_file_of_transformers_5_mean_the_defaults() -> None:
    nulls = dict.fromkeys(transformers.GenerationConfig().to_dict())
    config = GenerationConfig.from_dict({**nulls, "num_beams": 2})
    assert config.to_dict() == {**dict.fromkeys(config.extra), "num_beams": 2}
    config.validate()


def test_sequence_bias_dictionary_is_written_as_a_list() -> None:
    config = GenerationConfig(sequence_bias={(1, 2): 0.5})
    assert json.loads(config.to_json_string()) == {"sequence_bias": [[[1, 2], 0.5]]}


@pytest.mark.parametrize(("content", "message"), [("[1]", "holds a list"), ("{", "is not valid JSON")])
def test_file_without_a_json_object_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "generation_config.json"
    file.write_text(content)
    with pytest.raises(GenerationError, match=message):
        GenerationConfig.from_json_file(file)


def test_whisper_fields_are_kept() -> None:
    file = {"alignment_heads": [[2, 2]], "lang_to_id": {"<|en|>": 50259}, "is_multilingual": True, "max_length": 448}
    assert GenerationConfig.from_dict(file).to_dict() == file


def test_saves_to_and_reads_from_a_model_folder(tmp_path: Path) -> None:
    GenerationConfig(num_beams=3).save_pretrained(tmp_path / "model")
    assert GenerationConfig.from_pretrained(tmp_path / "model").num_beams == 3
    changed = GenerationConfig.from_pretrained(tmp_path / "model", num_beams=None, max_length=7)
    assert (changed.num_beams, changed.max_length) == (1, 7)
    with pytest.raises(ModelNotFoundError, match=r"must hold a generation_config\.json, but has none"):
        GenerationConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_options_of_a_models_configuration(as_dictionary: bool) -> None:
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config("bart", forced_eos_token_id=9)}
    config = SpeechEncoderDecoderConfig(**parts, eos_token_id=4)
    data = config.to_dict()
    options = GenerationConfig.from_model_config(data if as_dictionary else config)
    theirs = transformers.GenerationConfig.from_model_config(data)
    names = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "forced_eos_token_id")
    assert [getattr(options, name) for name in names] == [getattr(theirs, name) for name in names] == [2, 0, 4, 1, 9]


def test_copies_are_equal_and_separate() -> None:
    config = GenerationConfig(eos_token_id=[1], suppress_tokens=[3])
    other = copy.deepcopy(config)
    assert other == config
    other.suppress_tokens.append(4)
    other.eos_token_id = 2
    assert config.suppress_tokens == [3]
    assert config.eos_token_id == [1]
    assert other != config
