"""wav2vec 2.0 (https://arxiv.org/abs/2006.11477), XLS-R and MMS."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families.base import Family, Part, SpecAugmentConfig
from dragoman.spec import (
    Activation,
    BlockSpec,
    ConvAdapterSpec,
    ConvFrontendSpec,
    ConvPositionSpec,
    FrontendNorm,
    NormOrder,
    SpeechEncoderSpec,
    StackSpec,
)


@dataclass(kw_only=True)
class Wav2Vec2Config(SpecAugmentConfig):
    """Fields and defaults of a wav2vec 2.0 `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "wav2vec2"

    vocab_size: int = 32
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    final_dropout: float = 0.1
    layerdrop: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: list[int] | tuple[int, ...] = (512,) * 7
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    add_adapter: bool = False
    adapter_kernel_size: int = 3
    adapter_stride: int = 2
    num_adapter_layers: int = 3
    output_hidden_size: int | None = None
    adapter_attn_dim: int | None = None

    def __post_init__(self) -> None:
        """Check the values; an output width that is not given is that of the stack."""
        super().__post_init__()
        if self.feat_extract_norm not in ("group", "layer"):
            raise ConfigError(f'`feat_extract_norm` must be "group" or "layer", but is {self.feat_extract_norm!r}.')
        if self.output_hidden_size is None:
            self.output_hidden_size = self.hidden_size

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder."""
        stable = self.do_stable_layer_norm
        return SpeechEncoderSpec(
            frontend=self._frontend(),
            positions=self._positions(),
            stack=StackSpec(
                block=self._block(), num_layers=self.num_hidden_layers, final_norm=stable, layerdrop=self.layerdrop
            ),
            input_norm=not stable,
            dropout=self.hidden_dropout,
            adapter=self._adapter(),
            spec_augment=self._spec_augment() if self.apply_spec_augment else None,
            mask_embedding=self._spec_augment().mask_embedding,
            init_std=self.initializer_range,
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
        return BlockSpec(
            width=self.hidden_size,
            num_heads=self.num_attention_heads,
            ffn_width=self.intermediate_size,
            activation=Activation.parse(self.hidden_act),
            norm_order=NormOrder.PRE if self.do_stable_layer_norm else NormOrder.POST,
            norm_eps=self.layer_norm_eps,
            dropout=self.hidden_dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            # upstream's post-norm layers have no room for the language adapter
            bottleneck=self.adapter_attn_dim if self.do_stable_layer_norm else None,
        )

    def _adapter(self) -> ConvAdapterSpec | None:
        if not self.add_adapter:
            return None
        return ConvAdapterSpec(
            num_layers=self.num_adapter_layers,
            kernel=self.adapter_kernel_size,
            stride=self.adapter_stride,
            width=self.output_hidden_size or self.hidden_size,
        )


# fmt: off
FRONTEND: tuple[Rule, ...] = (
    # theirs                                                     ours
    Rename("feature_extractor.conv_layers.{i}.conv.*",           "frontend.convs.{i}.conv.*"),
    Rename("feature_extractor.conv_layers.{i}.layer_norm.*",     "frontend.convs.{i}.norm.*"),
    Rename("feature_projection.layer_norm.*",                    "frontend.norm.*"),
    Rename("feature_projection.projection.*",                    "frontend.proj.*"),
)
POSITIONS: tuple[Rule, ...] = (
    Rename("encoder.pos_conv_embed.conv.bias",                              "positions.conv.bias"),
    Rename("encoder.pos_conv_embed.conv.parametrizations.weight.original0", "positions.conv.weight_g"),
    Rename("encoder.pos_conv_embed.conv.parametrizations.weight.original1", "positions.conv.weight_v"),
)
STACK: tuple[Rule, ...] = (
    Rename("masked_spec_embed",                                  "mask_embed"),
    Rename("encoder.layers.{i}.attention.q_proj.*",              "stack.layers.{i}.self_attn.q_proj.*"),
    Rename("encoder.layers.{i}.attention.k_proj.*",              "stack.layers.{i}.self_attn.k_proj.*"),
    Rename("encoder.layers.{i}.attention.v_proj.*",              "stack.layers.{i}.self_attn.v_proj.*"),
    Rename("encoder.layers.{i}.attention.out_proj.*",            "stack.layers.{i}.self_attn.out_proj.*"),
    Rename("encoder.layers.{i}.layer_norm.*",                    "stack.layers.{i}.self_attn_norm.*"),
    Rename("encoder.layers.{i}.feed_forward.intermediate_dense.*", "stack.layers.{i}.ffn.in_proj.*"),
    Rename("encoder.layers.{i}.feed_forward.output_dense.*",     "stack.layers.{i}.ffn.out_proj.*"),
    Rename("encoder.layers.{i}.final_layer_norm.*",              "stack.layers.{i}.ffn_norm.*"),
)
LANGUAGE: tuple[Rule, ...] = (
    Rename("encoder.layers.{i}.adapter_layer.norm.*",            "stack.layers.{i}.bottleneck.norm.*"),
    Rename("encoder.layers.{i}.adapter_layer.linear_1.*",        "stack.layers.{i}.bottleneck.in_proj.*"),
    Rename("encoder.layers.{i}.adapter_layer.linear_2.*",        "stack.layers.{i}.bottleneck.out_proj.*"),
)
ADAPTER: tuple[Rule, ...] = (
    Rename("adapter.proj.*",                                     "adapter.proj.*"),
    Rename("adapter.proj_layer_norm.*",                          "adapter.norm.*"),
    Rename("adapter.layers.{i}.conv.*",                          "adapter.layers.{i}.*"),
)
HEADS: tuple[Rule, ...] = (
    Drop("lm_head.*",                                            why="a head that an encoder does not need"),
    Drop("projector.*",                                          why="a head that an encoder does not need"),
    Drop("classifier.*",                                         why="a head that an encoder does not need"),
    Drop("layer_weights",                                        why="a head that an encoder does not need"),
)
SPEAKER: tuple[Rule, ...] = (
    Drop("feature_extractor.weight",                             why="a head that an encoder does not need"),
    Drop("feature_extractor.bias",                               why="a head that an encoder does not need"),
    Drop("tdnn.*",                                               why="a head that an encoder does not need"),
    Drop("objective.*",                                          why="a head that an encoder does not need"),
)
QUANTIZER: tuple[Rule, ...] = (
    Drop("quantizer.*",                                          why="only pre-training needs it"),
    Drop("project_hid.*",                                        why="only pre-training needs it"),
    Drop("project_q.*",                                          why="only pre-training needs it"),
)
_OLD = Drop("mask_time_emb_vector",                              why="a name from before the first release")
# fmt: on


def stack_norm(stable: bool) -> Rule:
    """Return the rule of `encoder.layer_norm`: behind the stack in stable models, before it in the others."""
    return Rename("encoder.layer_norm.*", "stack.final_norm.*" if stable else "input_norm.*")


def _rules(config: Wav2Vec2Config) -> tuple[Rule, ...]:
    blocks = FRONTEND + POSITIONS + STACK + (stack_norm(config.do_stable_layer_norm),) + LANGUAGE + ADAPTER
    return (*blocks, *HEADS, *SPEAKER, *QUANTIZER, _OLD)


FAMILY = Family(
    config=Wav2Vec2Config,
    speech=Part(
        rules=_rules,
        classes=("Wav2Vec2Model",),
        prefixes=("wav2vec2.",),
        fresh=("mask_embed", "adapter.*", "stack.layers.{i}.bottleneck.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
)
