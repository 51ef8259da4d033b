"""SEW (https://arxiv.org/abs/2109.06870): wav2vec 2.0 with a deeper front end and a stack at half its frame rate."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import ConvFrontendSpec, ConvPositionSpec, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class SEWConfig(Wav2Vec2Config):
    """Fields and defaults of a SEW `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "sew"

    squeeze_factor: int = 2
    conv_dim: list[int] | tuple[int, ...] = (64, 128, 128, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512)
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1)

    def __post_init__(self) -> None:
        """Fix a field that `transformers` ignores."""
        self.do_stable_layer_norm = False
        super().__post_init__()

    def speech_spec(self) -> SpeechEncoderSpec:
        return replace(super().speech_spec(), adapter=None)

    def _frontend(self) -> ConvFrontendSpec:
        return replace(super()._frontend(), project=self.conv_dim[-1] != self.hidden_size)

    def _positions(self) -> ConvPositionSpec:
        return replace(super()._positions(), stride=self.squeeze_factor)


# fmt: off
FRONTEND: tuple[Rule, ...] = (
    # theirs                                                     ours
    Rename("feature_extractor.conv_layers.{i}.conv.*",           "frontend.convs.{i}.conv.*"),
    Rename("feature_extractor.conv_layers.{i}.layer_norm.*",     "frontend.convs.{i}.norm.*"),
    Rename("layer_norm.*",                                       "frontend.norm.*"),
    Rename("feature_projection.*",                               "frontend.proj.*"),
)
UPSAMPLE = Rename("encoder.upsample.projection.*",               "upsample.proj.*")
# fmt: on


def _rules(config: SEWConfig) -> tuple[Rule, ...]:
    blocks = (*like.POSITIONS, *like.STACK, like.stack_norm(stable=False), UPSAMPLE)
    return (*FRONTEND, *blocks, *like.HEADS)


FAMILY = Family(
    config=SEWConfig,
    speech=Part(rules=_rules, classes=("SEWModel",), prefixes=("sew.",), fresh=("mask_embed",)),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="SEW",
        paper="https://arxiv.org/abs/2109.06870",
        checkpoints=("asapp/sew-tiny-100k", "asapp/sew-mid-100k"),
        licence="Apache-2.0",
        own="the stack runs at half the frame rate",
    ),
    tiny=like.TINY,
    variants={
        "layer": {
            "feat_extract_norm": "layer",
            "hidden_size": 16,
            "num_conv_pos_embeddings": 7,
            "squeeze_factor": 3,
        },
    },
)
