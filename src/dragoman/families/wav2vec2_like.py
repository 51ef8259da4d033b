"""Shared by wav2vec 2.0-like encoders: fields, blocks and tensor names, part by part."""

from dataclasses import dataclass
from typing import Any

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families.config import SpecAugmentConfig
from dragoman.spec import (
    Activation,
    ConvAdapterSpec,
    FrontendSpec,
    NormOrder,
    NormSpec,
    PositionSpec,
    SpeechEncoderSpec,
)
from dragoman.spec.attention import AttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec

TINY_STACK: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
}
TINY: dict[str, Any] = TINY_STACK | {  # one frame every 40 samples
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 4, 2),
    "conv_kernel": (10, 3, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
TINY_LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


@dataclass(kw_only=True, init=False, eq=False)
class Wav2Vec2LikeConfig(SpecAugmentConfig):
    """The fields that encoders of waveforms and of filter banks share."""

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
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    add_adapter: bool = False
    adapter_kernel_size: int = 3
    adapter_stride: int = 2
    num_adapter_layers: int = 3
    output_hidden_size: int | None = None

    def __post_init__(self) -> None:
        """Set the output width to that of the stack, unless it is given."""
        super().__post_init__()
        if self.output_hidden_size is None:
            self.output_hidden_size = self.hidden_size

    def encoder_spec(
        self, frontend: FrontendSpec, positions: PositionSpec | None, block: BlockSpec, *, final_norm: bool
    ) -> SpeechEncoderSpec:
        """Describe the encoder with these parts; it normalises after the stack (`final_norm`) or before it."""
        spec_augment = self._spec_augment()
        return SpeechEncoderSpec(
            frontend=frontend,
            positions=positions,
            stack=StackSpec(
                block=block, num_layers=self.num_hidden_layers, final_norm=final_norm, layerdrop=self.layerdrop
            ),
            input_norm=not final_norm,
            dropout=self.hidden_dropout,
            adapter=self._adapter(),
            spec_augment=spec_augment if self.apply_spec_augment else None,
            mask_embedding=spec_augment.mask_embedding,
            init_std=self.initializer_range,
        )

    def plain_block(self, norm_order: NormOrder, width: int, activation: str) -> BlockSpec:
        """Describe a block without parts that only one family has."""
        return BlockSpec(
            self_attn=AttentionSpec(width=width, num_heads=self.num_attention_heads, dropout=self.attention_dropout),
            ffn=FeedForwardSpec(
                width=self.intermediate_size, activation=Activation.parse(activation), dropout=self.activation_dropout
            ),
            norm_order=norm_order,
            norm=NormSpec(eps=self.layer_norm_eps),
            dropout=self.hidden_dropout,
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
PROJECTION: tuple[Rule, ...] = (
    # theirs                                                     ours
    Rename("feature_projection.layer_norm.*",                    "frontend.norm.*"),
    Rename("feature_projection.projection.*",                    "frontend.proj.*"),
)
FRONTEND: tuple[Rule, ...] = (
    Rename("feature_extractor.conv_layers.{i}.conv.*",           "frontend.convs.{i}.conv.*"),
    Rename("feature_extractor.conv_layers.{i}.layer_norm.*",     "frontend.convs.{i}.norm.*"),
    *PROJECTION,
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
ADAPTER_PROJECTION: tuple[Rule, ...] = (
    Rename("adapter.proj.*",                                     "adapter.proj.*"),
    Rename("adapter.proj_layer_norm.*",                          "adapter.norm.*"),
)
ADAPTER: tuple[Rule, ...] = (
    *ADAPTER_PROJECTION,
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
# fmt: on


def stack_norm(stable: bool) -> Rule:
    """Return the rule for `encoder.layer_norm`: after the stack in stable models, before it in the others."""
    return Rename("encoder.layer_norm.*", "stack.final_norm.*" if stable else "input_norm.*")
