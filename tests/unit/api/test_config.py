"""Configurations: valid and invalid contents of a `config.json`, and shared special ids.

Differences from `transformers` are tested in tests/differences, equal defaults in tests/parity/test_config.py.
"""

import copy
import json
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dragoman import (
    AutoConfig,
    BertConfig,
    ConfigError,
    FlaxSpeechEncoderDecoderModel,
    GPT2Config,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
)
from dragoman.errors import DragomanError, ModelNotFoundError, UntrustedFileError
from dragoman.families import FAMILIES, Family, config_from_dict
from dragoman.generation.options import GenerationConfig
from dragoman.spec import SpecialIds
from dragoman.testing import tiny_config
from dragoman.torch.parts import SpeechEncoder, TextDecoder

BIG = 2**24
NONSENSE: tuple[Any, ...] = (
    None, -1, 0, 1, 7, BIG, BIG + 1, 2**40, 10**30, 1.5, -0.5, float("nan"), float("inf"), "x", "", True, [], {}, [[]],
    [0], [1, 2], ["a"], [-5], [2**40] * 3, {"a": 1}, "gelu" * 1000,
)  # fmt: skip
VARIANTS = {
    "wav2vec2": {"do_stable_layer_norm": True, "add_adapter": True, "adapter_attn_dim": 4},
    "hubert": {"conv_pos_batch_norm": True, "apply_spec_augment": True},
}


def test_methods_of_transformers_configurations(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=24, num_attention_heads=2)
    config.save_pretrained(tmp_path)
    config.to_json_file(tmp_path / "other.json")
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "config.json").read_bytes()
    again = BertConfig.from_pretrained(tmp_path, num_hidden_layers=3, trust_remote_code=True)
    assert (again.hidden_size, again.num_hidden_layers) == (24, 3)
    assert BertConfig.from_json_file(tmp_path / "other.json") == config == AutoConfig.from_pretrained(tmp_path)
    data, rest = BertConfig.get_config_dict(tmp_path, colour="red", local_files_only=True)
    assert (data["hidden_size"], rest) == (24, {"colour": "red"})
    assert config.to_diff_dict() == {"hidden_size": 24, "model_type": "bert", "num_attention_heads": 2}
    assert AutoConfig.for_model("bert", hidden_size=24, num_attention_heads=2) == config
    with pytest.raises(ConfigError, match="holds a 'bert' model, not a 'gpt2' one"):
        GPT2Config.from_pretrained(tmp_path)


def test_update_sets_all_or_nothing() -> None:
    config = BertConfig()
    config.update({"hidden_dropout_prob": 0.2, "colour": "red"})
    assert (config.hidden_dropout_prob, config.to_dict()["colour"]) == (0.2, "red")
    with pytest.raises(ConfigError, match="`hidden_size` must be a whole number, but is 'wide'"):
        config.update({"hidden_dropout_prob": 0.3, "hidden_size": "wide"})
    assert config.hidden_dropout_prob == 0.2
    with pytest.raises(ConfigError, match="takes a dictionary, but got a NoneType"):
        config.update(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])
def test_update_of_a_models_configuration_restores_its_ids(cls: Any) -> None:
    config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"), pad_token_id=1)
    model = cls(config=config)
    model.generation_config.eos_token_id = None
    with pytest.raises(ConfigError, match="`encoder` of a model's configuration cannot be replaced"):
        config.update({"pad_token_id": 7, "eos_token_id": 9, "colour": "red", "encoder": tiny_config("hubert")})
    assert config.encoder.model_type == "wav2vec2"
    assert (config.pad_token_id, config.eos_token_id) == (1, None)
    assert (model.generation_config.pad_token_id, model.generation_config.eos_token_id) == (1, None)
    assert not hasattr(config, "colour")
    config.update({"pad_token_id": 7})
    assert model.generation_config.pad_token_id == 7


def test_unknown_keys_are_attributes_and_are_saved() -> None:
    config = BertConfig.from_dict({"task_specific_params": {"a": 1}, "torch_dtype": "float16"})
    assert config.task_specific_params == {"a": 1}
    assert config.dtype == config.torch_dtype == "float16"
    config.processor_class = "Wav2Vec2Processor"
    config._attn_implementation, config.handle = "sdpa", object()  # not saved
    assert not {"_attn_implementation", "handle"} & json.loads(config.to_json_string()).keys()
    del config.handle
    again = BertConfig.from_dict(config.to_dict())
    assert again.processor_class == "Wav2Vec2Processor"
    assert copy.deepcopy(config) == config
    assert not hasattr(config, "colour")


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(1, 5))])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_random_field_values_are_refused_or_build_a_model(family: Family, first: int) -> None:
    """Every fifth field. Nothing is allocated: huge sizes raise an error, or give a model of shapes only."""
    built = set()
    for field in fields(family.config)[first::5]:
        for value in NONSENSE:
            data = {
                **tiny_config(family.model_type, **VARIANTS.get(family.model_type, {})).to_dict(),
                field.name: value,
            }
            with suppress(ConfigError):
                config = family.config.from_dict(data)
                for part, cls in (family.speech, SpeechEncoder), (family.text, TextDecoder):
                    if part is None:
                        continue
                    spec = config.speech_spec() if cls is SpeechEncoder else config.text_spec()
                    if spec not in built:
                        cls(config, empty=True)
                        built.add(spec)
    assert built


@pytest.mark.parametrize(
    ("model_type", "fields_", "words"),
    [
        ("bert", {"hidden_size": "768"}, "`hidden_size` must be a whole number, but is '768'"),
        ("bert", {"hidden_size": True}, "`hidden_size` must be a whole number, but is True"),
        ("bert", {"hidden_dropout_prob": None}, "`hidden_dropout_prob` must be a number, but is None"),
        ("bert", {"layer_norm_eps": "1e-5"}, "`layer_norm_eps` must be a number"),
        ("wav2vec2", {"conv_dim": 512}, "`conv_dim` must be a list in which each item is a whole number"),
        ("wav2vec2", {"conv_dim": [512, "a"]}, "`conv_dim` must be a list"),
        ("gpt2", {"n_inner": "x"}, "`n_inner` must be a whole number or null"),
        ("bart", {"eos_token_id": "2"}, "`eos_token_id`"),
    ],
)
def test_wrong_types_are_refused(model_type: str, fields_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict({"model_type": model_type, **fields_})
    assert words in str(caught.value)


def test_all_wrong_fields_are_in_one_error() -> None:
    with pytest.raises(ConfigError, match=r"`hidden_size`.*; .*`num_hidden_layers`"):
        config_from_dict({"model_type": "bert", "hidden_size": "a", "num_hidden_layers": 1.5})


@pytest.mark.parametrize(
    ("model_type", "fields_", "words"),
    [
        ("bert", {"hidden_size": 10**12}, "`width` must be a whole number from 1 to 16777216"),
        ("bert", {"num_hidden_layers": 10**9}, "`num_layers` must be a whole number from 0 to 1000"),
        ("bert", {"type_vocab_size": -1}, "num_token_types"),
        ("bert", {"hidden_dropout_prob": 1.5}, "`dropout` must be a number from 0 to 1, but is 1.5"),
        ("bert", {"layer_norm_eps": float("nan")}, "`norm_eps` must be a number from 0 to 1, but is nan"),
        ("bert", {"initializer_range": -1}, "init_std"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "`scale_attn_by_inverse_layer_idx` must be false"),
        ("gpt2", {"scale_attn_weights": False}, "`scale_attn_weights` must be true"),
        ("wav2vec2", {"num_conv_pos_embedding_groups": 7}, "32 is not a multiple of 7"),
        ("wav2vec2", {"add_adapter": True, "num_adapter_layers": 10**7}, "`num_layers` must be"),
        ("wav2vec2", {"layerdrop": 2}, "layerdrop"),
        ("wav2vec2", {"mask_time_length": 0}, "time_length"),
        ("wav2vec2", {"mask_time_prob": float("inf")}, "time_prob"),
        ("wav2vec2", {"conv_dim": [], "conv_stride": [], "conv_kernel": []}, "one number for each convolution"),
        ("whisper", {"num_mel_bins": 0}, "num_mels"),
        ("whisper", {"d_model": 6}, "6 is not a multiple of 4"),
        ("whisper", {"d_model": 5, "encoder_attention_heads": 1}, "even width"),
    ],
)
def test_invalid_numbers_are_refused_before_building(model_type: str, fields_: dict[str, Any], words: str) -> None:
    config = tiny_config(model_type, **fields_)
    with pytest.raises(ConfigError) as caught:
        config.text_spec() if model_type in ("bert", "gpt2") else config.speech_spec()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "fields_", "words"),
    [
        ("gemma2", {"attn_logit_softcapping": 0.0}, "cap of attention scores must be a number above 0"),
        ("gemma2", {"final_logit_softcapping": float("nan")}, "cap of the logits must be a number above 0"),
        ("gemma2", {"layer_types": ["full_attention"]}, "for each of the 2 layers"),
        ("gemma2", {"sliding_window": None}, "`sliding_window` must be a number"),
        ("gemma2", {"use_bidirectional_attention": True}, "is no decoder"),
        ("gemma3_text", {"_sliding_window_pattern": 0}, "must be a whole number above 0"),
        ("gemma3_text", {"rope_parameters": {"factor": 8.0, "rope_type": "linear"}}, "a dictionary for each of"),
        ("gemma3_text", {"rope_parameters": {"full_attention": 3}}, "a dictionary for each of"),
        ("phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, 'must be "default" or "longrope"'),
        ("phi3", {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0]}}, "4 pairs need one factor"),
        ("smollm3", {"no_rope_layers": [1]}, "`no_rope_layers` must hold 0 or 1 for each of the 2 layers"),
        ("smollm3", {"no_rope_layers": [1, 2]}, "`no_rope_layers` must hold 0 or 1 for each of the 2 layers"),
        ("smollm3", {"layer_types": ["full_attention"]}, "for each of the 2 layers"),
        ("smollm3", {"sliding_window": None, "layer_types": ["sliding_attention"] * 2}, "must be a number"),
        ("smollm3", {"no_rope_layer_interval": 0}, "must be above 0"),
        ("gpt_neo", {"attention_types": [["global"], 2]}, "must be like"),
        ("gpt_neo", {"attention_types": [[["global"], 3]]}, "for each of the 2 layers, but says"),
    ],
)
def test_inconsistent_layers_are_refused(model_type: str, fields_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_config(model_type, **fields_).text_spec()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_file_round_trip(family: Family, tmp_path: Path) -> None:
    config = tiny_config(family.model_type, extra={"a_later_field": [1]}, name_or_path="somewhere")
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.name_or_path == "somewhere"
    assert config.to_json_string() == (tmp_path / "config.json").read_text()


def test_private_keys_of_a_file_are_ignored() -> None:
    data = {"model_type": "bert", "_attn_implementation_internal": "evil/kernel", "auto_map": {"AutoModel": "x.Y"}}
    config = config_from_dict(data)
    assert "_attn_implementation_internal" not in config.to_dict()
    assert config.to_dict()["auto_map"] == {"AutoModel": "x.Y"}  # kept as data like every unknown key, without effect


def test_alternative_names_of_fields() -> None:
    config = config_from_dict({"model_type": "gpt2", "n_embd": 20, "n_head": 2}, hidden_size=40)
    assert config.n_embd == config.hidden_size == 40  # type: ignore[attr-defined]
    config.num_hidden_layers = 3  # type: ignore[attr-defined]
    assert config.n_layer == 3  # type: ignore[attr-defined]
    assert "hidden_size" not in config.to_dict()


def test_copies_are_independent() -> None:
    config = tiny_config("wav2vec2", conv_dim=[16, 16, 16], extra={"list": [1]})
    copied = config.copy(hidden_size=64)
    copied.extra["list"].append(2)
    assert config.hidden_size == 32
    assert config.extra == {"list": [1]}


def joint(**fields_: Any) -> SpeechEncoderDecoderConfig:
    return SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bart"), **fields_)


class TestJoint:
    def test_parts_are_copies(self) -> None:
        encoder, decoder = tiny_config("hubert"), tiny_config("bert")
        before = encoder.to_dict(), decoder.to_dict()
        config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        config.encoder.hidden_size = config.decoder.hidden_size = 1
        assert (encoder.to_dict(), decoder.to_dict()) == before

    def test_parts_of_wrong_types_are_refused(self) -> None:
        with pytest.raises(
            ConfigError, match="configurations of dragoman or their dictionaries, but one is a builtins"
        ):
            SpeechEncoderDecoderConfig(encoder="wav2vec2", decoder=tiny_config("bert"))

    def test_prefixed_overrides_reach_their_part(self) -> None:
        config = SpeechEncoderDecoderConfig.from_dict(
            joint().to_dict(), encoder_layerdrop=0.5, decoder_dropout=0.25, decoder_start_token_id=4, my_field="x"
        )
        assert config.encoder.layerdrop == 0.5
        assert config.decoder.dropout == 0.25
        assert config.decoder_start_token_id == 4
        assert config.decoder.decoder_start_token_id == 2
        assert config.my_field == "x"

    def test_nested_file(self, tmp_path: Path) -> None:
        config = joint(pad_token_id=3, eos_token_id=[2, 5])
        config.save_pretrained(tmp_path)
        data = json.loads((tmp_path / "config.json").read_text())
        assert data["model_type"] == "speech-encoder-decoder"
        assert data["encoder"]["model_type"] == "wav2vec2"
        assert data["decoder"]["is_decoder"] is data["decoder"]["add_cross_attention"] is True
        again = SpeechEncoderDecoderConfig.from_pretrained(tmp_path)
        assert again.to_dict() == config.to_dict()
        assert again.eos_token_id == [2, 5]

    def test_ids_fall_back_to_the_decoder(self) -> None:
        config = joint()
        assert config.decoder_start_token_id is None
        assert config.special_id("decoder_start_token_id") == 2
        assert config.special_id("forced_eos_token_id") == 2
        config.decoder_start_token_id = 7
        assert config.special_id("decoder_start_token_id") == 7

    def test_start_id_defaults_to_the_beginning_id(self) -> None:
        config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("mbart"))
        assert config.special_id("decoder_start_token_id") == 0
        config.bos_token_id = 9
        assert config.special_id("decoder_start_token_id") == 9

    def test_ids_are_shared_with_the_generation_options(self) -> None:
        config, options = joint(), GenerationConfig()
        options.special_ids = config.special_ids  # type: ignore[attr-defined]
        options.pad_token_id = 5
        config.eos_token_id = 6
        assert (config.pad_token_id, options.eos_token_id) == (5, 6)
        assert joint().pad_token_id is None  # another configuration has its own ids
        assert config.copy().special_ids is not config.special_ids
        assert config.copy().pad_token_id == 5

    def test_every_special_id_is_a_field(self) -> None:
        names = {field.name for field in fields(SpeechEncoderDecoderConfig)}
        assert set(SpecialIds.names()) <= names

    def test_other_model_type_is_refused(self, tmp_path: Path) -> None:
        tiny_config("bert").save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match="holds a 'bert' model, not a 'speech-encoder-decoder' one"):
            SpeechEncoderDecoderConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", UntrustedFileError, "not valid JSON"),
        ("[]", UntrustedFileError, "must hold a JSON object"),
        ("{}", ConfigError, "no `model_type`"),
        ('{"model_type": "wav2vec"}', ConfigError, 'Did you mean "wav2vec2"'),
        ('{"model_type": ["bert"]}', ConfigError, "is not supported: no family describes"),
        ('{"model_type": "speech-encoder-decoder", "encoder": {"model_type": "bert"}}', ConfigError, "not both"),
        ('{"model_type": "speech-encoder-decoder", "encoder": 3, "decoder": 4}', ConfigError, "dictionaries"),
    ],
)
def test_broken_file_is_refused(tmp_path: Path, text: str, error: type[DragomanError], words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(error) as caught:
        AutoConfig.from_pretrained(tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "decoder", "words"),
    [("bert", "bert", "cannot be the encoder"), ("wav2vec2", "wav2vec2", "cannot be the decoder")],
)
def test_part_in_the_wrong_role_is_refused(encoder: str, decoder: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SpeechEncoderDecoderConfig.from_encoder_decoder_configs(tiny_config(encoder), tiny_config(decoder))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        AutoConfig.from_pretrained(tmp_path)


def test_path_of_a_file_is_read_too(tmp_path: Path) -> None:
    tiny_config("bert").save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path / "config.json").model_type == "bert"
