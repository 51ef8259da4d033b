"""wav2vec 2.0 with Conformer blocks (https://arxiv.org/abs/2010.05171, relative or rotary positions)."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import wav2vec2
from dragoman.families.base import Family, Part
from dragoman.spec import BlockSpec, ConformerSpec, Distance, NormOrder, RotarySpec, SpeechEncoderSpec, StackSpec


@dataclass(kw_only=True)
class Wav2Vec2ConformerConfig(wav2vec2.Wav2Vec2Config):
    """Fields and defaults of a wav2vec2-conformer `config.json`."""

    model_type: ClassVar[str] = "wav2vec2-conformer"

    vocab_size: int | None = None  # type: ignore[assignment]
    position_embeddings_type: str | None = "relative"
    rotary_embedding_base: int = 10000
    max_source_positions: int = 5000  # upstream reads it and goes beyond where a clip is longer
    conv_depthwise_kernel_size: int = 31
    conformer_conv_dropout: float = 0.1

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder."""
        stack = StackSpec(
            block=self._block(), num_layers=self.num_hidden_layers, final_norm=True, layerdrop=self.layerdrop
        )
        return replace(super().speech_spec(), positions=None, input_norm=False, stack=stack)

    def _block(self) -> BlockSpec:
        kind = self.position_embeddings_type
        if kind not in ("relative", "rotary", None):
            raise ConfigError(f'`position_embeddings_type` must be "relative", "rotary" or null, but is {kind!r}.')
        conformer = ConformerSpec(
            kernel=self.conv_depthwise_kernel_size,
            causal=False,
            dropout=self.conformer_conv_dropout,
            distance=Distance.SINUSOID if kind == "relative" else None,
        )
        plain = replace(super()._block(), norm_order=NormOrder.PRE, bottleneck=None)
        rotary = RotarySpec(width=plain.head_dim, theta=self.rotary_embedding_base) if kind == "rotary" else None
        return replace(plain, conformer=conformer, rotary=rotary)


# fmt: off
CONFORMER: tuple[Rule, ...] = (
    # theirs                                                      ours
    Rename("masked_spec_embed",                                   "mask_embed"),
    Rename("encoder.layers.{i}.ffn1_layer_norm.*",                "stack.layers.{i}.ffn1_norm.*"),
    Rename("encoder.layers.{i}.ffn1.intermediate_dense.*",        "stack.layers.{i}.ffn1.in_proj.*"),
    Rename("encoder.layers.{i}.ffn1.output_dense.*",              "stack.layers.{i}.ffn1.out_proj.*"),
    Rename("encoder.layers.{i}.self_attn_layer_norm.*",           "stack.layers.{i}.self_attn_norm.*"),
    Rename("encoder.layers.{i}.self_attn.linear_q.*",             "stack.layers.{i}.self_attn.q_proj.*"),
    Rename("encoder.layers.{i}.self_attn.linear_k.*",             "stack.layers.{i}.self_attn.k_proj.*"),
    Rename("encoder.layers.{i}.self_attn.linear_v.*",             "stack.layers.{i}.self_attn.v_proj.*"),
    Rename("encoder.layers.{i}.self_attn.linear_out.*",           "stack.layers.{i}.self_attn.out_proj.*"),
    Rename("encoder.layers.{i}.self_attn.linear_pos.weight",      "stack.layers.{i}.self_attn.place_proj.weight"),
    Rename("encoder.layers.{i}.self_attn.pos_bias_u",             "stack.layers.{i}.self_attn.content_bias"),
    Rename("encoder.layers.{i}.self_attn.pos_bias_v",             "stack.layers.{i}.self_attn.place_bias"),
    Rename("encoder.layers.{i}.conv_module.layer_norm.*",         "stack.layers.{i}.conv.norm.*"),
    Rename("encoder.layers.{i}.conv_module.pointwise_conv1.weight", "stack.layers.{i}.conv.in_conv.weight"),
    Rename("encoder.layers.{i}.conv_module.depthwise_conv.weight", "stack.layers.{i}.conv.depth_conv.weight"),
    Rename("encoder.layers.{i}.conv_module.pointwise_conv2.weight", "stack.layers.{i}.conv.out_conv.weight"),
    Rename("encoder.layers.{i}.ffn2_layer_norm.*",                "stack.layers.{i}.ffn2_norm.*"),
    Rename("encoder.layers.{i}.ffn2.intermediate_dense.*",        "stack.layers.{i}.ffn2.in_proj.*"),
    Rename("encoder.layers.{i}.ffn2.output_dense.*",              "stack.layers.{i}.ffn2.out_proj.*"),
    Rename("encoder.layers.{i}.final_layer_norm.*",               "stack.layers.{i}.final_norm.*"),
)
_OWN: tuple[Rule, ...] = (
    Rename("encoder.layers.{i}.conv_module.batch_norm.*",         "stack.layers.{i}.conv.depth_norm.*"),
    Rename("encoder.layer_norm.*",                                "stack.final_norm.*"),
    Drop("encoder.pos_conv_embed.*",                              why="upstream has it and never uses it"),
    Drop("encoder.embed_positions.inv_freq",                      why="computed from the configuration"),
)
# fmt: on


def _rules(config: Wav2Vec2ConformerConfig) -> tuple[Rule, ...]:
    heads = (*wav2vec2.HEADS, *wav2vec2.SPEAKER, *wav2vec2.QUANTIZER)
    return (*wav2vec2.FRONTEND, *CONFORMER, *_OWN, *wav2vec2.ADAPTER, *heads)


FAMILY = Family(
    config=Wav2Vec2ConformerConfig,
    speech=Part(
        rules=_rules,
        classes=("Wav2Vec2ConformerModel",),
        prefixes=("wav2vec2_conformer.",),
        fresh=("mask_embed", "adapter.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
)
