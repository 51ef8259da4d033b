"""The joint configuration: ids, parts given as dictionaries or objects, defaults, and invalid values."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import dragoman
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


def test_unset_ids_are_none() -> None:
    """`transformers` 5 raises an AttributeError."""
    config = Config(encoder=Wav2Vec2Config(), decoder=BertConfig())
    assert config.pad_token_id is config.decoder_start_token_id is config.eos_token_id is None


def test_ids_are_not_taken_from_the_encoder() -> None:
    """The ids 0, 1, 2 of wav2vec2 belong to its CTC head."""
    config = Config(encoder=Wav2Vec2Config(), decoder=BertConfig(pad_token_id=None))
    assert [config.special_id(name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")] == [None] * 3


def test_dictionaries_of_the_caller_are_not_changed() -> None:
    """`transformers` removes `model_type` from them."""
    given = parts()
    before = copy.deepcopy(given)
    Config(**given)
    assert given == before


def test_parts_may_be_configuration_objects() -> None:
    """`transformers` 4 calls their `pop`, which they do not have."""
    assert Config(encoder=Wav2Vec2Config(), decoder=BertConfig()).decoder.model_type == "bert"


def test_decoder_gets_cross_attention_and_a_causal_mask() -> None:
    """`transformers` 5 leaves it bidirectional and without cross-attention; 4 changes the caller's object."""
    given = BertConfig()
    decoder = Config(encoder=Wav2Vec2Config(), decoder=given).decoder
    assert (decoder.is_decoder, decoder.add_cross_attention) == (True, True)
    assert (given.is_decoder, given.add_cross_attention) == (False, False)


@pytest.mark.parametrize("given", [(), ("encoder",), ("decoder",)])
def test_missing_part_is_refused(given: tuple[str, ...]) -> None:
    """`transformers` 5 takes the defaults of wav2vec2 or BERT for the missing part."""
    with pytest.raises(ConfigError, match="not both `encoder` and `decoder`"):
        Config(**{name: parts()[name] for name in given})


@pytest.mark.parametrize(
    ("model_type", "words"), [(None, "model_type"), ("bret", 'Did you mean "bert"'), (7, "model_type|7")]
)
def test_part_of_unknown_type_is_refused(model_type: Any, words: str) -> None:
    """`transformers` raises a KeyError without explanation."""
    given = parts()
    given["decoder"].pop("model_type")
    if model_type is not None:
        given["decoder"]["model_type"] = model_type
    with pytest.raises(ConfigError, match=words):
        Config(**given)


def test_swapped_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="'bert' model cannot be the encoder"):
        SpeechEncoderDecoderModel(config=Config(encoder=tiny_config("bert"), decoder=tiny_config("wav2vec2")))


def test_absent_keys_have_the_defaults_of_their_family() -> None:
    """Files of `transformers` 4.57 omit values that equal the default of the part's own class."""
    config = Config.from_dict({"encoder": {"model_type": "wav2vec2"}, "decoder": {"model_type": "bert"}})
    assert (config.encoder.pad_token_id, config.encoder.eos_token_id) == (0, 2)
    assert (config.decoder.pad_token_id, config.decoder.eos_token_id) == (0, None)
    assert (config.decoder.layer_norm_eps, config.encoder.layer_norm_eps) == (1e-12, 1e-5)


def test_dtype_and_torch_dtype_are_read() -> None:
    for key in "dtype", "torch_dtype":
        assert Config.from_dict({**parts(), key: "float16"}).dtype == "float16"


def test_unused_keywords_are_returned(tmp_path: Path) -> None:
    Config(**parts()).save_pretrained(tmp_path)
    config, unused = AutoConfig.from_pretrained(tmp_path, return_unused_kwargs=True, encoder_layerdrop=0.5, nonsense=1)
    assert config.encoder.layerdrop == 0.5
    assert unused == {"nonsense": 1}


def test_unknown_keys_survive_a_round_trip(tmp_path: Path) -> None:
    Config.from_dict({**parts(), "my_field": [1]}).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["my_field"] == [1]


def test_joint_flag_does_not_untie_the_head_of_the_decoder() -> None:
    config = Config(**parts())
    assert (config.tie_word_embeddings, config.decoder.tie_word_embeddings) == (False, True)
    decoder = SpeechEncoderDecoderModel(config=config).decoder
    assert decoder.get_output_embeddings().weight is decoder.get_input_embeddings().weight


def test_default_kernels_are_those_of_the_checkpoints() -> None:
    """The page documents 3 for the last two, which are 2: a frame covers 400 samples; 16,000 samples give 49."""
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
def test_invalid_sizes_are_refused_before_building(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_config("wav2vec2", **fields).speech_spec()


def test_model_copies_the_configurations_of_its_parts(tmp_path: Path) -> None:
    """Resizing or changing the model leaves them as they were."""
    encoder, decoder = tiny_config("wav2vec2"), tiny_config("bert")
    before = encoder.to_dict(), decoder.to_dict()
    config = dragoman.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    model = SpeechEncoderDecoderModel(config=config)
    model.resize_token_embeddings(200)
    model.config.decoder.pad_token_id = 77
    assert (encoder.to_dict(), decoder.to_dict()) == before


def test_unsupported_decoder_is_refused_with_a_list_of_families(build: Any) -> None:
    """The error lists the supported families."""
    for model_type in "prophetnet", "whisperer":
        with pytest.raises(ConfigError, match=rf"{model_type}.*(bert|whisper)"):
            dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("hubert"), decoder={"model_type": model_type})
