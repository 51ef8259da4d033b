"""Shared by GPT-2 and GPT-BigCode: fields, network and tensor names."""

from dataclasses import dataclass
from typing import Any

from dragoman.checkpoint.keymap import Rename, Rule, Split
from dragoman.errors import ConfigError
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import head_rule, other_heads
from dragoman.spec import Activation, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec

TINY: dict[str, Any] = {
    "vocab_size": 99,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


@dataclass(kw_only=True, init=False, eq=False)
class GPT2LikeConfig(ModelConfig):
    """The fields that GPT-2 and GPT-BigCode share, and the decoder they describe."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    hidden_size = FieldAlias("n_embd")
    num_hidden_layers = FieldAlias("n_layer")
    num_attention_heads = FieldAlias("n_head")
    max_position_embeddings = FieldAlias("n_positions")

    def text_spec(self) -> TextDecoderSpec:
        if not self.scale_attn_weights:
            raise ConfigError(
                f"`scale_attn_weights` must be true, but is false: a {self.model_type} with unscaled attention scores "
                "is not supported. Use another model."
            )
        block = BlockSpec(
            self_attn=AttentionSpec(width=self.n_embd, num_heads=self.n_head, dropout=self.attn_pdrop),
            ffn=FeedForwardSpec(
                width=self.n_inner or 4 * self.n_embd, activation=Activation.parse(self.activation_function)
            ),
            norm_order=NormOrder.PRE,
            norm=NormSpec(eps=self.layer_norm_epsilon),
            cross_attn=CrossAttentionSpec() if self.add_cross_attention else None,
            dropout=self.resid_pdrop,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.n_positions,
            embed=TextEmbeddingSpec(dropout=self.embd_pdrop, pad_token_id=self.pad_token_id, trains_padding=True),
            stack=StackSpec(block=block, num_layers=self.n_layer, final_norm=True),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.initializer_range,
            scaled_residual_init=True,
        )


_SELF = "stack.layers.{i}.self_attn."
_CROSS = "stack.layers.{i}.cross_attn."
FUSED = (_SELF + "q_proj.*", _SELF + "k_proj.*", _SELF + "v_proj.*")


# fmt: off
def rules(config: GPT2LikeConfig, fused: Split, transpose: bool) -> tuple[Rule, ...]:
    """Return the rules; both fuse q, k and v, and GPT-2 stores matrices as `[in, out]` (`transpose`)."""
    return (
        # theirs                                              ours
        *rules_around(config, transpose),
        fused,
        Rename("transformer.h.{i}.attn.c_proj.*",             _SELF + "out_proj.*", transpose),
        Rename("transformer.h.{i}.ln_cross_attn.*",           "stack.layers.{i}.cross_attn_norm.*"),
        Rename("transformer.h.{i}.crossattention.q_attn.*",   _CROSS + "q_proj.*", transpose),
        Split("transformer.h.{i}.crossattention.c_attn.*",    (_CROSS + "k_proj.*", _CROSS + "v_proj.*"), transpose),
        Rename("transformer.h.{i}.crossattention.c_proj.*",   _CROSS + "out_proj.*", transpose),
    )


def rules_around(config: ModelConfig, transpose: bool = False) -> tuple[Rule, ...]:
    """Return the rules for all but attention, which GPT-Neo shares."""
    return (
        # theirs                                              ours
        Rename("transformer.wte.weight",                      "embed.tokens.weight"),
        Rename("transformer.wpe.weight",                      "embed.positions.weight"),
        Rename("transformer.h.{i}.ln_1.*",                    "stack.layers.{i}.self_attn_norm.*"),
        Rename("transformer.h.{i}.ln_2.*",                    "stack.layers.{i}.ffn_norm.*"),
        Rename("transformer.h.{i}.mlp.c_fc.*",                "stack.layers.{i}.ffn.in_proj.*", transpose),
        Rename("transformer.h.{i}.mlp.c_proj.*",              "stack.layers.{i}.ffn.out_proj.*", transpose),
        Rename("transformer.ln_f.*",                          "stack.final_norm.*"),
        *other_heads("score.weight", "classifier.*"),
        head_rule(config.tie_word_embeddings),
    )
# fmt: on
