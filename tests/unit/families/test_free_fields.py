"""Configurations take any name: kept, saved, compared, copied and pickled; a misspelt field is warned about."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from dragoman import AutoConfig, BertConfig, GPT2Config, LlamaConfig, SpeechEncoderDecoderConfig, Wav2Vec2Config
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, Family
from dragoman.testing import tiny_config

ANY: dict[str, Any] = {
    "feat_extract_dropout": 0.0, "ctc_loss_reduction": "mean", "gradient_checkpointing": True, "max_length": 30,
    "id2label": {0: "a", 1: "b", 2: "c"}, "colour": [1, {"deep": None}],
    "tokenizer_class": "BertTokenizer", "nothing": None,
}  # fmt: skip
JOINT = "speech-encoder-decoder"


def build(model_type: str, **given: Any) -> Any:
    if model_type != JOINT:
        return tiny_config(model_type, **given)
    parts = tiny_config("wav2vec2"), tiny_config("bert")
    return SpeechEncoderDecoderConfig.from_encoder_decoder_configs(*parts, **given)


@pytest.mark.parametrize("model_type", [*(family.model_type for family in FAMILIES), JOINT])
class TestEveryClass:
    def test_any_name_is_an_attribute_that_is_saved(self, model_type: str, tmp_path: Path) -> None:
        config = build(model_type, **ANY)
        config.later = {"x": 1}
        config.update({"updated": 7})
        wanted = {**ANY, "later": {"x": 1}, "updated": 7}
        assert {name: getattr(config, name) for name in wanted} == wanted
        config.save_pretrained(tmp_path)
        again = AutoConfig.from_pretrained(tmp_path)
        assert {name: getattr(again, name) for name in wanted} == wanted
        assert again.num_labels == 3
        assert wanted.keys() <= config.to_diff_dict().keys()
        assert again.to_json_string() == config.to_json_string()

    def test_copies_pickles_and_equality(self, model_type: str) -> None:
        config = build(model_type, **ANY)
        config.later = [1]
        for twin in copy.copy(config), copy.deepcopy(config), _pickled(config), config.copy():
            assert twin == config
            twin.pad_token_id = 5 if config.pad_token_id != 5 else 6
            twin.another = 1
            assert twin != config
            assert config.pad_token_id != twin.pad_token_id
            assert not hasattr(config, "another")
        assert build(model_type) == build(model_type)
        assert build(model_type, colour=1) != build(model_type, colour=2)

    def test_names_of_transformers_are_no_misspellings(self, model_type: str) -> None:
        if model_type == "speech_to_text_2":
            names = set(transformers.PreTrainedConfig().to_dict())
        else:
            names = set(transformers.AutoConfig.for_model(model_type).to_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in names - {"encoder", "decoder", "model_type", "_name_or_path"}:
                config = build(model_type)
                setattr(config, name, getattr(config, name, None))


def test_misspelt_fields_are_warned_about_and_kept() -> None:
    for make in (
        lambda: Wav2Vec2Config(hiden_size=24),
        lambda: Wav2Vec2Config.from_dict({}, hiden_size=24),
        lambda: AutoConfig.for_model("wav2vec2", hiden_size=24),
    ):
        with pytest.warns(UserWarning, match='no field `hiden_size`.*Did you mean "hidden_size"'):
            assert make().hiden_size == 24
    config = GPT2Config()
    with pytest.warns(UserWarning, match='Did you mean "hidden_size"'):  # a second name
        config.hidden_sise = 3
    with pytest.warns(UserWarning, match='Did you mean "attn_pdrop"'):
        config.update({"attn_pdrops": 0.0})


def test_size_of_the_vocabulary_may_come_first() -> None:
    assert BertConfig(99, hidden_size=24).vocab_size == 99
    with pytest.raises(ConfigError, match="Only `vocab_size` can come without its name, but 2 values"):
        BertConfig(99, 24)


def test_second_names_are_taken_by_the_constructor() -> None:
    assert GPT2Config(hidden_size=24, num_hidden_layers=2).n_embd == 24


def test_older_names_given_to_the_constructor_count() -> None:
    assert LlamaConfig(rope_theta=5e5).rope_parameters["rope_theta"] == 5e5


def test_numbers_of_labels() -> None:
    config = BertConfig(num_labels=4)
    assert (config.id2label[3], config.label2id["LABEL_3"]) == ("LABEL_3", 3)
    config.id2label = {0: "no", 1: "yes"}
    assert (config.num_labels, config.label2id) == (2, {"no": 0, "yes": 1})
    config.num_labels = 5
    assert len(config.id2label) == 5


def test_types_of_pytorch_are_saved_by_name() -> None:
    config = BertConfig(torch_dtype=torch.float16)
    assert config.dtype == "float16"
    config.dtype = torch.bfloat16
    assert config.to_dict()["dtype"] == "bfloat16"


def test_parts_of_a_joint_configuration_take_any_name() -> None:
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        tiny_config("wav2vec2", ctc_loss_reduction="mean"), tiny_config("bart"), encoder_add_adapter=True, num_beams=5
    )
    assert config.encoder_add_adapter is True
    assert config.num_beams == 5
    assert config.encoder.ctc_loss_reduction == "mean"
    assert config.to_dict()["encoder"]["ctc_loss_reduction"] == "mean"


class Special(Wav2Vec2Config):
    """A subclass as users of `transformers` write it."""

    model_type = "wav2vec2"

    def __init__(self, my_field: int = 3, **given: Any) -> None:
        super().__init__(**given)
        self.my_field = my_field


def test_subclass_with_its_own_constructor() -> None:
    config = Special(my_field=4, hidden_size=24, colour="red")
    again = Special.from_dict(config.to_dict())
    assert (again.my_field, again.hidden_size, again.colour) == (4, 24, "red")


class Mine(Wav2Vec2Config):
    model_type = "my-wav2vec2"


def test_registered_class_is_read_and_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a subclass"):
        AutoConfig.register("my-wav2vec2", dict)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be 'other', but is 'my-wav2vec2'"):
        AutoConfig.register("other", Mine)
    AutoConfig.register("my-wav2vec2", Mine, exist_ok=True)
    with pytest.raises(ConfigError, match="is taken"):
        AutoConfig.register("my-wav2vec2", Mine)
    config = Mine(**tiny_config("wav2vec2").to_dict())
    SpeechEncoderDecoderConfig(encoder=config, decoder=tiny_config("bert")).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path).encoder) is Mine


def test_general_defaults_of_transformers() -> None:
    config = BertConfig()
    assert config.tokenizer_class is None
    assert config.problem_type is None
    assert config.use_return_dict is True


@pytest.mark.parametrize("family", FAMILIES[:3], ids=lambda family: family.model_type)
def test_difference_from_the_defaults(family: Family) -> None:
    assert set(family.config().to_diff_dict()) == {"model_type"}


def _pickled(config: Any) -> Any:
    return pickle.loads(pickle.dumps(config))  # noqa: S301
