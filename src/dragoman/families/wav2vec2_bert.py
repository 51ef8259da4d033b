"""wav2vec2-bert (https://arxiv.org/abs/2312.05187, section 3.2.1): causal Conformer blocks over a filter bank."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import wav2vec2
from dragoman.families.base import Family, Part, SpecAugmentConfig
from dragoman.families.wav2vec2_conformer import CONFORMER
from dragoman.spec import (
    Activation,
    BlockSpec,
    ConformerSpec,
    ConvAdapterSpec,
    Distance,
    FeatureFrontendSpec,
    NormOrder,
    RotarySpec,
    SpeechEncoderSpec,
    StackSpec,
)

_DISTANCES = {"relative": Distance.SINUSOID, "relative_key": Distance.VECTOR, "rotary": None, None: None}


@dataclass(kw_only=True)
class Wav2Vec2BertConfig(SpecAugmentConfig):
    """Fields and defaults of a wav2vec2-bert `config.json`; the defaults are `facebook/w2v-bert-2.0`."""

    model_type: ClassVar[str] = "wav2vec2-bert"

    vocab_size: int | None = None
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    feature_projection_input_dim: int = 160
    hidden_act: str = "swish"
    hidden_dropout: float = 0.0
    activation_dropout: float = 0.0
    attention_dropout: float = 0.0
    feat_proj_dropout: float = 0.0
    final_dropout: float = 0.1
    layerdrop: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    add_adapter: bool = False
    adapter_kernel_size: int = 3
    adapter_stride: int = 2
    num_adapter_layers: int = 1
    adapter_act: str = "relu"
    use_intermediate_ffn_before_adapter: bool = False
    output_hidden_size: int | None = None
    position_embeddings_type: str | None = "relative_key"
    rotary_embedding_base: int = 10000
    max_source_positions: int = 5000  # upstream reads it and goes beyond where a clip is longer
    left_max_position_embeddings: int = 64
    right_max_position_embeddings: int = 8
    conv_depthwise_kernel_size: int = 31
    conformer_conv_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check the values; an output width that is not given is that of the stack."""
        super().__post_init__()
        if self.position_embeddings_type not in _DISTANCES:
            kinds = '"relative", "relative_key", "rotary" or null'
            raise ConfigError(f"`position_embeddings_type` must be {kinds}, but is {self.position_embeddings_type!r}.")
        if self.use_intermediate_ffn_before_adapter and not self.add_adapter:
            raise ConfigError("`use_intermediate_ffn_before_adapter` needs `add_adapter`.")
        if self.output_hidden_size is None:
            self.output_hidden_size = self.hidden_size

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder."""
        front = FeatureFrontendSpec(
            num_features=self.feature_projection_input_dim, norm_eps=self.layer_norm_eps, dropout=self.feat_proj_dropout
        )
        return SpeechEncoderSpec(
            frontend=front,
            positions=None,
            stack=StackSpec(block=self._block(), num_layers=self.num_hidden_layers, layerdrop=self.layerdrop),
            input_norm=False,
            dropout=self.hidden_dropout,
            adapter=self._adapter() if self.add_adapter else None,
            spec_augment=self._spec_augment() if self.apply_spec_augment else None,
            mask_embedding=self._spec_augment().mask_embedding,
            init_std=self.initializer_range,
        )

    def _plain(self, width: int, activation: str) -> BlockSpec:
        return BlockSpec(
            width=width,
            num_heads=self.num_attention_heads,
            ffn_width=self.intermediate_size,
            activation=Activation.parse(activation),
            norm_order=NormOrder.PRE,
            norm_eps=self.layer_norm_eps,
            dropout=self.hidden_dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
        )

    def _block(self) -> BlockSpec:
        plain = self._plain(self.hidden_size, self.hidden_act)
        conformer = ConformerSpec(
            kernel=self.conv_depthwise_kernel_size,
            causal=True,
            dropout=self.conformer_conv_dropout,
            norm_eps=self.layer_norm_eps,
            distance=_DISTANCES[self.position_embeddings_type],
            reach=(self.left_max_position_embeddings, self.right_max_position_embeddings),
        )
        rotary = RotarySpec(width=plain.head_dim, theta=self.rotary_embedding_base)
        return replace(plain, conformer=conformer, rotary=rotary if self.position_embeddings_type == "rotary" else None)

    def _adapter(self) -> ConvAdapterSpec:
        width = self.output_hidden_size or self.hidden_size
        first = self._plain(self.hidden_size, "relu") if self.use_intermediate_ffn_before_adapter else None
        return ConvAdapterSpec(
            num_layers=self.num_adapter_layers,
            kernel=self.adapter_kernel_size,
            stride=self.adapter_stride,
            padding=self.adapter_stride // 2,
            width=width,
            block=self._plain(width, self.adapter_act),
            first_ffn=first,
            dropout=self.conformer_conv_dropout,
        )


# fmt: off
_OWN: tuple[Rule, ...] = (
    # theirs                                                      ours
    Rename("feature_projection.layer_norm.*",                     "frontend.norm.*"),
    Rename("feature_projection.projection.*",                     "frontend.proj.*"),
    Rename("encoder.layers.{i}.self_attn.distance_embedding.weight", "stack.layers.{i}.self_attn.vectors.weight"),
    Rename("encoder.layers.{i}.conv_module.depthwise_layer_norm.*", "stack.layers.{i}.conv.depth_norm.*"),
    Rename("intermediate_ffn.intermediate_dense.*",               "adapter.first_ffn.in_proj.*"),
    Rename("intermediate_ffn.output_dense.*",                     "adapter.first_ffn.out_proj.*"),
    Rename("adapter.proj.*",                                      "adapter.proj.*"),
    Rename("adapter.proj_layer_norm.*",                           "adapter.norm.*"),
    Rename("adapter.layers.{i}.residual_layer_norm.*",            "adapter.layers.{i}.residual_norm.*"),
    Rename("adapter.layers.{i}.residual_conv.*",                  "adapter.layers.{i}.residual_conv.*"),
    Rename("adapter.layers.{i}.self_attn_layer_norm.*",           "adapter.layers.{i}.self_attn_norm.*"),
    Rename("adapter.layers.{i}.self_attn_conv.*",                 "adapter.layers.{i}.self_attn_conv.*"),
    Rename("adapter.layers.{i}.self_attn.linear_q.*",             "adapter.layers.{i}.self_attn.q_proj.*"),
    Rename("adapter.layers.{i}.self_attn.linear_k.*",             "adapter.layers.{i}.self_attn.k_proj.*"),
    Rename("adapter.layers.{i}.self_attn.linear_v.*",             "adapter.layers.{i}.self_attn.v_proj.*"),
    Rename("adapter.layers.{i}.self_attn.linear_out.*",           "adapter.layers.{i}.self_attn.out_proj.*"),
    Rename("adapter.layers.{i}.ffn_layer_norm.*",                 "adapter.layers.{i}.ffn_norm.*"),
    Rename("adapter.layers.{i}.ffn.intermediate_dense.*",         "adapter.layers.{i}.ffn.in_proj.*"),
    Rename("adapter.layers.{i}.ffn.output_dense.*",               "adapter.layers.{i}.ffn.out_proj.*"),
)
# fmt: on


def _rules(config: Wav2Vec2BertConfig) -> tuple[Rule, ...]:
    return (*CONFORMER, *_OWN, *wav2vec2.HEADS, *wav2vec2.SPEAKER)


FAMILY = Family(
    config=Wav2Vec2BertConfig,
    speech=Part(
        rules=_rules,
        classes=("Wav2Vec2BertModel",),
        prefixes=("wav2vec2_bert.",),
        fresh=("mask_embed", "adapter.*"),
    ),
    feature_extractor="SeamlessM4TFeatureExtractor",
)
