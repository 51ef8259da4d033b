"""Shared by encoders of Conformer blocks: fields, block and tensor names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.errors import ConfigError
from dragoman.spec import BlockSpec, ConformerSpec, Distance, RotarySpec


@dataclass(kw_only=True, init=False, eq=False)
class ConformerFields:
    """The fields of Conformer blocks; `distances` maps a family's names for relative positions to their kind."""

    distances: ClassVar[Mapping[str | None, Distance | None]]

    position_embeddings_type: str | None = "relative"
    rotary_embedding_base: int = 10000
    max_source_positions: int = 5000  # `transformers` ignores it for longer clips
    conv_depthwise_kernel_size: int = 31
    conformer_conv_dropout: float = 0.1

    def conformer_block(
        self, plain: BlockSpec, *, causal: bool, norm_eps: float = 1e-5, reach: tuple[int, int] = (0, 0)
    ) -> BlockSpec:
        """Describe the Conformer block with the sizes of a plain block.

        Raises:
            ConfigError: If the family has no such positions.
        """
        kind = self.position_embeddings_type
        if kind not in self.distances:
            kinds = ", ".join(f'"{name}"' for name in self.distances if name)
            raise ConfigError(f"`position_embeddings_type` must be {kinds} or null, but is {kind!r}.")
        conformer = ConformerSpec(
            kernel=self.conv_depthwise_kernel_size,
            causal=causal,
            dropout=self.conformer_conv_dropout,
            attn_dropout=plain.self_attn.dropout,
            norm_eps=norm_eps,
            distance=self.distances[kind],
            reach=reach,
        )
        attention = plain.self_attn
        if kind == "rotary":
            rotary = RotarySpec(width=attention.head_dim, theta=self.rotary_embedding_base)
            attention = replace(attention, rotary=rotary)
        return replace(plain, self_attn=attention, kind=conformer)


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
# fmt: on
