"""wav2vec 2.0 (https://arxiv.org/abs/2006.11477), XLS-R and MMS."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.errors import ConfigError
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.spec import Activation, ConvFrontendSpec, ConvPositionSpec, FrontendNorm, NormOrder, SpeechEncoderSpec
from dragoman.spec.block import BlockSpec


@dataclass(kw_only=True, init=False, eq=False)
class Wav2Vec2Config(like.Wav2Vec2LikeConfig):
    """Fields and defaults of a wav2vec 2.0 `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "wav2vec2"

    vocab_size: int = 32
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: list[int] | tuple[int, ...] = (512,) * 7
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    adapter_attn_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feat_extract_norm not in ("group", "layer"):
            raise ConfigError(f'`feat_extract_norm` must be "group" or "layer", but is {self.feat_extract_norm!r}.')

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next."""
        return self._frontend().hop

    def speech_spec(self) -> SpeechEncoderSpec:
        return self.encoder_spec(
            self._frontend(), self._positions(), self._block(), final_norm=self.do_stable_layer_norm
        )

    def _frontend(self) -> ConvFrontendSpec:
        return ConvFrontendSpec(
            channels=tuple(self.conv_dim),
            kernels=tuple(self.conv_kernel),
            strides=tuple(self.conv_stride),
            bias=self.conv_bias,
            norm=FrontendNorm(self.feat_extract_norm),
            activation=Activation.parse(self.feat_extract_activation),
            norm_eps=self.layer_norm_eps,
            dropout=self.feat_proj_dropout,
        )

    def _positions(self) -> ConvPositionSpec:
        return ConvPositionSpec(
            kernel=self.num_conv_pos_embeddings,
            groups=self.num_conv_pos_embedding_groups,
            activation=Activation.parse(self.feat_extract_activation),
        )

    def _block(self) -> BlockSpec:
        stable = self.do_stable_layer_norm
        plain = self.plain_block(NormOrder.PRE if stable else NormOrder.POST, self.hidden_size, self.hidden_act)
        # post-norm layers of `transformers` have no language adapter
        return replace(plain, bottleneck=self.adapter_attn_dim) if stable else plain


def _rules(config: Wav2Vec2Config) -> tuple[Rule, ...]:
    blocks = like.FRONTEND + like.POSITIONS + like.STACK + (like.stack_norm(config.do_stable_layer_norm),)
    extras = like.LANGUAGE + like.ADAPTER + like.HEADS + like.SPEAKER + like.QUANTIZER
    return (*blocks, *extras, Drop("mask_time_emb_vector", why="only in files from before the first release"))


FAMILY = Family(
    config=Wav2Vec2Config,
    speech=Part(
        rules=_rules,
        classes=("Wav2Vec2Model",),
        prefixes=("wav2vec2.",),
        fresh=("mask_embed", "adapter.*", "stack.layers.{i}.bottleneck.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="wav2vec 2.0, XLS-R, MMS",
        paper="https://arxiv.org/abs/2006.11477",
        checkpoints=("facebook/wav2vec2-base", "facebook/wav2vec2-xls-r-300m", "facebook/mms-300m"),
        licence="Apache-2.0; MMS: CC BY-NC 4.0",
        own="one small adapter per language (MMS)",
    ),
    tiny=like.TINY,
    variants={
        "large": like.TINY_LARGE,
        "language-adapter": like.TINY_LARGE | {"adapter_attn_dim": 8},
        "adapter": {"add_adapter": True, "output_hidden_size": 24},
    },
)
