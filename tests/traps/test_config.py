"""Traps of the joint configuration (upstream's behaviour, sections 1.1 to 1.4), and what happens here instead."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman import (
    AutoConfig,
    BertConfig,
    ConfigError,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    Wav2Vec2Config,
)
from dragoman.testing import tiny_config

Config = SpeechEncoderDecoderConfig


def parts() -> dict[str, Any]:
    return {"encoder": tiny_config("wav2vec2").to_dict(), "decoder": tiny_config("bert").to_dict()}


def test_trap_1_1_unset_ids_read_as_none() -> None:
    """Upstream 5 raises an AttributeError."""
    config = Config(encoder=Wav2Vec2Config(), decoder=BertConfig())
    assert config.pad_token_id is config.decoder_start_token_id is config.eos_token_id is None


def test_trap_1_1_no_ids_are_taken_from_the_encoder() -> None:
    """wav2vec2's 0, 1, 2 are ids of its CTC head."""
    config = Config(encoder=Wav2Vec2Config(), decoder=BertConfig(pad_token_id=None))
    assert [config.special_id(name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")] == [None] * 3


def test_trap_1_2_dictionaries_of_the_caller_stay_whole() -> None:
    """Upstream takes `model_type` out of them."""
    given = parts()
    before = copy.deepcopy(given)
    Config(**given)
    assert given == before


def test_trap_1_2_configuration_objects_are_accepted() -> None:
    """Upstream 4 asks them for `pop`."""
    assert Config(encoder=Wav2Vec2Config(), decoder=BertConfig()).decoder.model_type == "bert"


def test_trap_1_2_a_decoder_object_is_made_causal_and_listening() -> None:
    """Upstream 5 leaves it bidirectional and deaf; release 4 changes the caller's object."""
    given = BertConfig()
    decoder = Config(encoder=Wav2Vec2Config(), decoder=given).decoder
    assert (decoder.is_decoder, decoder.add_cross_attention) == (True, True)
    assert (given.is_decoder, given.add_cross_attention) == (False, False)


@pytest.mark.parametrize("given", [(), ("encoder",), ("decoder",)])
def test_trap_1_2_half_a_configuration_is_refused(given: tuple[str, ...]) -> None:
    """Upstream 5 fills the other half with the defaults of wav2vec2 or BERT."""
    with pytest.raises(ConfigError, match="not both `encoder` and `decoder`"):
        Config(**{name: parts()[name] for name in given})


@pytest.mark.parametrize(
    ("model_type", "words"), [(None, "model_type"), ("bret", 'Did you mean "bert"'), (7, "model_type|7")]
)
def test_trap_1_2_a_part_without_a_known_type_is_named(model_type: Any, words: str) -> None:
    """Upstream raises a bare KeyError."""
    given = parts()
    given["decoder"].pop("model_type")
    if model_type is not None:
        given["decoder"]["model_type"] = model_type
    with pytest.raises(ConfigError, match=words):
        Config(**given)


def test_trap_1_2_parts_that_swap_their_roles_are_refused() -> None:
    with pytest.raises(ConfigError, match="'bert' model cannot be the encoder"):
        SpeechEncoderDecoderModel(config=Config(encoder=tiny_config("bert"), decoder=tiny_config("wav2vec2")))


def test_trap_1_3_absent_keys_have_the_defaults_of_their_family() -> None:
    """Files of 4.57 leave out what equals the default of the part's class, not of all classes."""
    config = Config.from_dict({"encoder": {"model_type": "wav2vec2"}, "decoder": {"model_type": "bert"}})
    assert (config.encoder.pad_token_id, config.encoder.eos_token_id) == (0, 2)
    assert (config.decoder.pad_token_id, config.decoder.eos_token_id) == (0, None)
    assert (config.decoder.layer_norm_eps, config.encoder.layer_norm_eps) == (1e-12, 1e-5)


def test_trap_1_3_both_spellings_of_dtype_are_read() -> None:
    for key in "dtype", "torch_dtype":
        assert Config.from_dict({**parts(), key: "float16"}).dtype == "float16"


def test_trap_1_3_unused_keywords_are_told_apart(tmp_path: Path) -> None:
    Config(**parts()).save_pretrained(tmp_path)
    config, unused = AutoConfig.from_pretrained(tmp_path, return_unused_kwargs=True, encoder_layerdrop=0.5, nonsense=1)
    assert config.encoder.layerdrop == 0.5
    assert unused == {"nonsense": 1}


def test_trap_1_3_unknown_keys_survive_a_round_trip(tmp_path: Path) -> None:
    Config.from_dict({**parts(), "my_field": [1]}).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["my_field"] == [1]


def test_trap_1_3_the_joint_flag_does_not_untie_the_decoders_own_head() -> None:
    config = Config(**parts())
    assert (config.tie_word_embeddings, config.decoder.tie_word_embeddings) == (False, True)
    assert SpeechEncoderDecoderModel(config=config).decoder.get_output_embeddings().weight is None


def test_trap_1_4_the_documented_kernels_are_wrong_and_the_real_ones_are_here() -> None:
    """The last two are 2, not 3: a frame sees 400 samples and 16,000 of them give 49."""
    config = Wav2Vec2Config()
    assert tuple(config.conv_kernel) == (10, 3, 3, 3, 3, 2, 2)
    assert config.speech_spec().frontend.receptive_field == 400
    assert config.speech_spec().frame_lengths(16_000) == 49


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conv_kernel": (10, 3)}, "conv_kernel"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "30"),
        ({"hidden_act": "swich"}, "swich"),
    ],
)
def test_trap_1_4_impossible_sizes_are_errors_before_any_weight_is_made(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_config("wav2vec2", **fields).speech_spec()
