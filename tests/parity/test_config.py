"""Configuration classes against `transformers`: the same fields and defaults, and files that both read."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import transformers

from dragoman import AutoConfig, SpeechEncoderDecoderConfig
from dragoman.families import FAMILIES, Family, config_from_dict
from dragoman.testing import tiny_config

# Fields that do not change the network: they concern heads, pre-training or implementations. Like unknown keys, they
# are kept and written back.
NEEDLESS = {
    "attention_softmax_in_fp32", "classifier_dropout", "classifier_proj_size", "codevector_dim",
    "contrastive_logits_temperature", "ctc_loss_reduction", "ctc_zero_infinity", "dense_act_fn",
    "diversity_loss_weight", "encoder_no_repeat_ngram_size", "feat_quantizer_dropout", "is_gated_act",
    "median_filter_width", "num_clusters", "num_codevector_groups", "num_codevectors_per_group", "num_ctc_classes",
    "num_feat_extract_layers", "num_key_value_heads", "num_negatives", "pretraining_tp", "proj_codevector_dim",
    "reorder_and_upcast_attn", "replace_prob", "scale_attention_softmax_in_fp32", "summary_activation",
    "summary_first_dropout", "summary_last_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
    "tdnn_dilation", "tdnn_dim", "tdnn_kernel", "use_weighted_layer_sum", "xvector_output_dim",
}  # fmt: skip


# `transformers` 5 has removed one of them: see test_speech2text2.py.
SHARED = [family for family in FAMILIES if family.model_type != "speech_to_text_2"]


@pytest.mark.parametrize("family", SHARED, ids=lambda family: family.model_type)
class TestFamilies:
    def test_defaults(self, family: Family) -> None:
        ours, theirs = family.config(), transformers.AutoConfig.for_model(family.model_type).to_dict()
        mine = {field.name: _plain(getattr(ours, field.name)) for field in fields(family.config)}
        both = mine.keys() & theirs.keys() - {"dtype"}
        assert {name: mine[name] for name in both} == {name: _plain(theirs[name]) for name in both}

    def test_all_fields_of_the_network_exist(self, family: Family) -> None:
        theirs = transformers.AutoConfig.for_model(family.model_type).to_dict()
        general = transformers.PreTrainedConfig().to_dict()
        assert {name for name in theirs.keys() - general.keys() if not hasattr(family.config, name)} <= NEEDLESS

    def test_files_are_exchanged(self, family: Family, tmp_path: Path) -> None:
        theirs = transformers.AutoConfig.for_model(**tiny_config(family.model_type).to_dict())
        theirs.save_pretrained(tmp_path / "theirs")
        ours = AutoConfig.from_pretrained(tmp_path / "theirs")
        assert type(ours) is family.config
        before = json.loads((tmp_path / "theirs/config.json").read_text())
        after = ours.to_dict()
        assert {name: _plain(after[name]) for name in before if name in after} == {
            name: _plain(value) for name, value in before.items() if name in after
        }
        lost = {name: value for name, value in before.items() if name not in after and value is not None}
        assert lost == {}
        ours.save_pretrained(tmp_path / "ours")
        again = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
        ignored = {"_name_or_path", "transformers_version", "architectures"}
        assert {k: v for k, v in again.to_dict().items() if k not in ignored} == {
            k: v for k, v in theirs.to_dict().items() if k not in ignored
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and value.get("model_type") == "parakeet_encoder":
        return config_from_dict(value).speech_spec()  # files give only some of its fields
    return list(value) if isinstance(value, tuple) else value


def test_joint_configuration_file(tmp_path: Path) -> None:
    parts = [transformers.AutoConfig.for_model(**tiny_config(name).to_dict()) for name in ("hubert", "bart")]
    theirs = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        *parts, decoder_start_token_id=3, pad_token_id=4
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours = SpeechEncoderDecoderConfig.from_pretrained(tmp_path / "theirs")
    assert (ours.decoder_start_token_id, ours.pad_token_id) == (3, 4)
    assert (ours.encoder.hidden_size, ours.decoder.d_model) == (32, 24)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.SpeechEncoderDecoderConfig.from_pretrained(tmp_path / "ours")
    for part in "encoder", "decoder":
        mine, wanted = getattr(again, part).to_dict(), getattr(theirs, part).to_dict()
        assert {k: v for k, v in wanted.items() if mine.get(k) != v and v is not None} == {}
