"""wav2vec2-bert (https://arxiv.org/abs/2312.05187, section 3.2.1): causal Conformer blocks over a filter bank."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.conformer_like import CONFORMER, ConformerFields
from dragoman.spec import BlockSpec, ConvAdapterSpec, Distance, FeatureFrontendSpec, NormOrder, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Wav2Vec2BertConfig(ConformerFields, like.Wav2Vec2LikeConfig):
    """Fields and defaults of a wav2vec2-bert `config.json`; the defaults are `facebook/w2v-bert-2.0`."""

    model_type: ClassVar[str] = "wav2vec2-bert"
    distances: ClassVar[Mapping[str | None, Distance | None]] = {
        "relative": Distance.SINUSOID,
        "relative_key": Distance.VECTOR,
        "rotary": None,
        None: None,
    }

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
    num_adapter_layers: int = 1
    adapter_act: str = "relu"
    use_intermediate_ffn_before_adapter: bool = False
    position_embeddings_type: str | None = "relative_key"
    left_max_position_embeddings: int = 64
    right_max_position_embeddings: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_intermediate_ffn_before_adapter and not self.add_adapter:
            raise ConfigError("`use_intermediate_ffn_before_adapter` needs `add_adapter`.")

    @property
    def inputs_to_logits_ratio(self) -> int:
        """What its class in `transformers` has under this name; not the ratio of lengths."""
        shorter = self.adapter_stride**self.num_adapter_layers if self.add_adapter else 1
        return self.feature_projection_input_dim * 2 * shorter

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder; it has no norm before or after its blocks."""
        front = FeatureFrontendSpec(
            num_features=self.feature_projection_input_dim, norm_eps=self.layer_norm_eps, dropout=self.feat_proj_dropout
        )
        return replace(self.encoder_spec(front, None, self._block(), final_norm=False), input_norm=False)

    def _plain(self, width: int, activation: str) -> BlockSpec:
        return self.plain_block(NormOrder.PRE, width, activation)

    def _block(self) -> BlockSpec:
        plain = self._plain(self.hidden_size, self.hidden_act)
        reach = self.left_max_position_embeddings, self.right_max_position_embeddings
        return self.conformer_block(plain, causal=True, norm_eps=self.layer_norm_eps, reach=reach)

    def _adapter(self) -> ConvAdapterSpec | None:
        adapter = super()._adapter()
        if adapter is None:
            return None
        return replace(
            adapter,
            padding=self.adapter_stride // 2,
            block=self._plain(adapter.width, self.adapter_act),
            first_ffn=self._plain(self.hidden_size, "relu").ffn if self.use_intermediate_ffn_before_adapter else None,
            dropout=self.conformer_conv_dropout,
        )


# fmt: off
_OWN: tuple[Rule, ...] = (
    # theirs                                                      ours
    Rename("encoder.layers.{i}.self_attn.distance_embedding.weight", "stack.layers.{i}.self_attn.vectors.weight"),
    Rename("encoder.layers.{i}.conv_module.depthwise_layer_norm.*", "stack.layers.{i}.conv.depth_norm.*"),
    Rename("intermediate_ffn.intermediate_dense.*",               "adapter.first_ffn.in_proj.*"),
    Rename("intermediate_ffn.output_dense.*",                     "adapter.first_ffn.out_proj.*"),
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
    return (*like.PROJECTION, *CONFORMER, *_OWN, *like.ADAPTER_PROJECTION, *like.HEADS, *like.SPEAKER)


FAMILY = Family(
    config=Wav2Vec2BertConfig,
    speech=Part(
        rules=_rules,
        classes=("Wav2Vec2BertModel",),
        prefixes=("wav2vec2_bert.",),
        fresh=("mask_embed", "adapter.*"),
    ),
    feature_extractor="SeamlessM4TFeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2BertProcessor",
    card=Card(
        name="wav2vec-BERT 2.0",
        paper="https://arxiv.org/abs/2312.05187",
        checkpoints=("facebook/w2v-bert-2.0",),
        licence="MIT",
    ),
    tiny=like.TINY_STACK
    | {
        "feature_projection_input_dim": 8,
        "left_max_position_embeddings": 5,
        "right_max_position_embeddings": 2,
        "conv_depthwise_kernel_size": 7,
    },
    variants={
        "relative": {"position_embeddings_type": "relative", "layer_norm_eps": 0.01},
        "adapter": {
            "position_embeddings_type": "rotary",
            "add_adapter": True,
            "num_adapter_layers": 2,
            "output_hidden_size": 24,
            "use_intermediate_ffn_before_adapter": True,
        },
    },
)
