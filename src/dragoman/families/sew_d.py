"""SEW-D (https://arxiv.org/abs/2109.06870): SEW with the disentangled attention of DeBERTa."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.sew import FRONTEND, UPSAMPLE, SEWConfig
from dragoman.spec import BlockSpec, ConvFrontendSpec, DisentangledSpec, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class SEWDConfig(SEWConfig):
    """Fields and defaults of a SEW-D `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "sew-d"

    max_position_embeddings: int = 512
    position_buckets: int = 256
    share_att_key: bool = True
    relative_attention: bool = True
    pos_att_type: list[str] | tuple[str, ...] = ("p2c", "c2p")
    norm_rel_ebd: str = "layer_norm"
    hidden_act: str = "gelu_python"
    layer_norm_eps: float = 1e-7
    feature_layer_norm_eps: float = 1e-5

    def speech_spec(self) -> SpeechEncoderSpec:
        plain = super().speech_spec()
        return replace(plain, input_norm=False, dropout=0.0, stack=replace(plain.stack, layerdrop=0.0))

    def _frontend(self) -> ConvFrontendSpec:
        return replace(super()._frontend(), norm_eps=self.feature_layer_norm_eps)

    def _block(self) -> BlockSpec:
        if not self.relative_attention:
            raise ConfigError("`relative_attention` must be true, but is false: no SEW-D was trained without it.")
        buckets = self.position_buckets > 0
        disentangled = DisentangledSpec(
            span=self.position_buckets if buckets else self.max_position_embeddings,
            max_distance=self.max_position_embeddings if buckets else None,
            by_query="c2p" in self.pos_att_type,
            by_key="p2c" in self.pos_att_type,
            shared=self.share_att_key,
            norm="layer_norm" in self.norm_rel_ebd.lower(),
        )
        # `transformers` uses `activation_dropout` for states, and drops no activations
        plain = super()._block()
        ffn = replace(plain.ffn, dropout=0.0)
        return replace(plain, ffn=ffn, dropout=self.activation_dropout, kind=disentangled)


# fmt: off
_LAYERS: tuple[Rule, ...] = (
    # theirs                                                     ours
    Rename("masked_spec_embed",                                  "mask_embed"),
    Rename("encoder.encoder.rel_embeddings.weight",              "position_bias.embed.weight"),
    Rename("encoder.encoder.LayerNorm.*",                        "position_bias.norm.*"),
    Rename("encoder.encoder.layer.{i}.attention.self.query_proj.*", "stack.layers.{i}.self_attn.q_proj.*"),
    Rename("encoder.encoder.layer.{i}.attention.self.key_proj.*", "stack.layers.{i}.self_attn.k_proj.*"),
    Rename("encoder.encoder.layer.{i}.attention.self.value_proj.*", "stack.layers.{i}.self_attn.v_proj.*"),
    Rename("encoder.encoder.layer.{i}.attention.self.pos_key_proj.*", "stack.layers.{i}.self_attn.place_k_proj.*"),
    Rename("encoder.encoder.layer.{i}.attention.self.pos_query_proj.*", "stack.layers.{i}.self_attn.place_q_proj.*"),
    Rename("encoder.encoder.layer.{i}.attention.output.dense.*", "stack.layers.{i}.self_attn.out_proj.*"),
    Rename("encoder.encoder.layer.{i}.attention.output.LayerNorm.*", "stack.layers.{i}.self_attn_norm.*"),
    Rename("encoder.encoder.layer.{i}.intermediate.dense.*",     "stack.layers.{i}.ffn.in_proj.*"),
    Rename("encoder.encoder.layer.{i}.output.dense.*",           "stack.layers.{i}.ffn.out_proj.*"),
    Rename("encoder.encoder.layer.{i}.output.LayerNorm.*",       "stack.layers.{i}.ffn_norm.*"),
)
# fmt: on


def _rules(config: SEWDConfig) -> tuple[Rule, ...]:
    return (*FRONTEND, *like.POSITIONS, *_LAYERS, UPSAMPLE, *like.HEADS)


FAMILY = Family(
    config=SEWDConfig,
    speech=Part(rules=_rules, classes=("SEWDModel",), prefixes=("sew_d.",), fresh=("mask_embed",)),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="SEW-D",
        paper="https://arxiv.org/abs/2109.06870",
        checkpoints=("asapp/sew-d-tiny-100k", "asapp/sew-d-mid-100k"),
        licence="Apache-2.0",
    ),
    tiny=like.TINY | {"position_buckets": 4, "max_position_embeddings": 8},
    variants={
        "no-buckets": {
            "feat_extract_norm": "layer",
            "share_att_key": False,
            "position_buckets": -1,
            "max_position_embeddings": 6,
            "norm_rel_ebd": "none",
            "feature_layer_norm_eps": 0.01,
        },
        "by-query": {"pos_att_type": ("c2p",), "hidden_size": 16},
    },
)
