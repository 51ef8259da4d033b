"""WavLM (https://arxiv.org/abs/2110.13900): wav2vec 2.0 with a gated relative position bias."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import BlockSpec, BucketBiasSpec, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class WavLMConfig(Wav2Vec2Config):
    """Fields and defaults of a WavLM `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "wavlm"

    num_buckets: int = 320
    max_bucket_distance: int = 800

    def speech_spec(self) -> SpeechEncoderSpec:
        bias = BucketBiasSpec(num_buckets=self.num_buckets, max_distance=self.max_bucket_distance)
        return replace(super().speech_spec(), position_bias=bias)

    def _block(self) -> BlockSpec:
        plain = super()._block()
        return replace(plain, self_attn=replace(plain.self_attn, gated_bias=True), bottleneck=None)


# fmt: off
_BIAS: tuple[Rule, ...] = (
    # theirs                                                    ours
    Rename("encoder.layers.0.attention.rel_attn_embed.weight",  "position_bias.embed.weight"),
    Rename("encoder.layers.{i}.attention.gru_rel_pos_const",    "stack.layers.{i}.self_attn.bias_gate.const"),
    Rename("encoder.layers.{i}.attention.gru_rel_pos_linear.*", "stack.layers.{i}.self_attn.bias_gate.linear.*"),
)
# fmt: on


def _rules(config: WavLMConfig) -> tuple[Rule, ...]:
    norm = like.stack_norm(config.do_stable_layer_norm)
    blocks = (*like.FRONTEND, *like.POSITIONS, *like.STACK)
    return (*blocks, norm, *like.ADAPTER, *like.HEADS, *like.SPEAKER, *_BIAS)


FAMILY = Family(
    config=WavLMConfig,
    speech=Part(
        rules=_rules,
        classes=("WavLMModel",),
        prefixes=("wavlm.",),
        fresh=("mask_embed", "adapter.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="WavLM",
        paper="https://arxiv.org/abs/2110.13900",
        checkpoints=("microsoft/wavlm-base", "microsoft/wavlm-large"),
        licence="see their cards",
        own="a gated relative position bias",
    ),
    tiny=like.TINY | {"num_buckets": 32, "max_bucket_distance": 40},
    variants={"large": like.TINY_LARGE},
)
