"""HuBERT (https://arxiv.org/abs/2106.07447): the network of wav2vec 2.0, trained to predict clusters."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class HubertConfig(Wav2Vec2Config):
    """Fields and defaults of a HuBERT `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "hubert"

    feat_proj_layer_norm: bool = True
    conv_pos_batch_norm: bool = False

    def speech_spec(self) -> SpeechEncoderSpec:
        return replace(
            super().speech_spec(),
            frontend=replace(self._frontend(), feature_norm=self.feat_proj_layer_norm),
            positions=replace(self._positions(), batch_norm=self.conv_pos_batch_norm),
            adapter=None,
        )


# fmt: off
_BATCH_NORM_POSITIONS: tuple[Rule, ...] = (
    # theirs                                                           ours
    Rename("encoder.pos_conv_embed.conv.weight",                       "positions.conv.weight"),
    Rename("encoder.pos_conv_embed.conv.bias",                         "positions.conv.bias"),
    Rename("encoder.pos_conv_embed.batch_norm.weight",                 "positions.batch_norm.weight"),
    Rename("encoder.pos_conv_embed.batch_norm.bias",                   "positions.batch_norm.bias"),
    Rename("encoder.pos_conv_embed.batch_norm.running_mean",           "positions.batch_norm.running_mean"),
    Rename("encoder.pos_conv_embed.batch_norm.running_var",            "positions.batch_norm.running_var"),
    Rename("encoder.pos_conv_embed.batch_norm.num_batches_tracked",    "positions.batch_norm.num_batches_tracked"),
)
_PRETRAINING: tuple[Rule, ...] = (
    Drop("label_embs_concat",                                          why="only pre-training needs it"),
    Drop("final_proj.*",                                               why="only pre-training needs it"),
)
# fmt: on


def _rules(config: HubertConfig) -> tuple[Rule, ...]:
    positions = _BATCH_NORM_POSITIONS if config.conv_pos_batch_norm else like.POSITIONS
    norm = like.stack_norm(config.do_stable_layer_norm)
    blocks = (*like.FRONTEND, *positions, *like.STACK, norm, *like.LANGUAGE)
    return (*blocks, *like.HEADS, *_PRETRAINING)


FAMILY = Family(
    config=HubertConfig,
    speech=Part(
        rules=_rules,
        classes=("HubertModel",),
        prefixes=("hubert.",),
        fresh=("mask_embed", "stack.layers.{i}.bottleneck.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="HuBERT",
        paper="https://arxiv.org/abs/2106.07447",
        checkpoints=("facebook/hubert-base-ls960", "facebook/hubert-large-ll60k"),
        licence="Apache-2.0",
    ),
    tiny=like.TINY,
    variants={"large": like.TINY_LARGE, "batch-norm": {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}},
)
