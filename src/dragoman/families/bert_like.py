"""Shared by BERT-like models: fields, network and tensor names."""

from dataclasses import dataclass

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families.base import TINY_TEXT
from dragoman.families.config import ModelConfig
from dragoman.families.rules import CROSS, head_rule
from dragoman.spec import Activation, EmbedNorm, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec

TINY = TINY_TEXT | {"intermediate_size": 30}


@dataclass(kw_only=True, init=False, eq=False)
class BertLikeConfig(ModelConfig):
    """The fields of BERT-like models, and the decoder they describe, without token types."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0

    def text_spec(self) -> TextDecoderSpec:
        activation = Activation.parse(self.hidden_act)
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                dropout=self.attention_probs_dropout_prob,
            ),
            ffn=FeedForwardSpec(width=self.intermediate_size, activation=activation),
            norm_order=NormOrder.POST,
            norm=NormSpec(eps=self.layer_norm_eps),
            cross_attn=CrossAttentionSpec() if self.add_cross_attention else None,
            dropout=self.hidden_dropout_prob,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            embed=TextEmbeddingSpec(
                norm=EmbedNorm.SUM,
                norm_eps=self.layer_norm_eps,
                dropout=self.hidden_dropout_prob,
                pad_token_id=self.pad_token_id,
            ),
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers),
            head=HeadSpec(tied=self.tie_word_embeddings, bias=True, transform=activation),
            causal=self.is_decoder,
            init_std=self.initializer_range,
        )


# fmt: off
def block_rules(base: str) -> tuple[Rule, ...]:
    """Return the rules for embeddings and blocks; `base` begins each of their names."""
    layer = f"{base}.encoder.layer.{{i}}"
    return (
        # theirs                                                        ours
        Rename(f"{base}.embeddings.word_embeddings.weight",             "embed.tokens.weight"),
        Rename(f"{base}.embeddings.position_embeddings.weight",         "embed.positions.weight"),
        Rename(f"{base}.embeddings.LayerNorm.*",                        "embed.norm.*"),
        Rename(f"{layer}.attention.self.query.*",                       "stack.layers.{i}.self_attn.q_proj.*"),
        Rename(f"{layer}.attention.self.key.*",                         "stack.layers.{i}.self_attn.k_proj.*"),
        Rename(f"{layer}.attention.self.value.*",                       "stack.layers.{i}.self_attn.v_proj.*"),
        Rename(f"{layer}.attention.output.dense.*",                     "stack.layers.{i}.self_attn.out_proj.*"),
        Rename(f"{layer}.attention.output.LayerNorm.*",                 "stack.layers.{i}.self_attn_norm.*"),
        Rename(f"{layer}.crossattention.self.query.*",                  "stack.layers.{i}.cross_attn.q_proj.*"),
        Rename(f"{layer}.crossattention.self.key.*",                    "stack.layers.{i}.cross_attn.k_proj.*"),
        Rename(f"{layer}.crossattention.self.value.*",                  "stack.layers.{i}.cross_attn.v_proj.*"),
        Rename(f"{layer}.crossattention.output.dense.*",                "stack.layers.{i}.cross_attn.out_proj.*"),
        Rename(f"{layer}.crossattention.output.LayerNorm.*",            "stack.layers.{i}.cross_attn_norm.*"),
        Rename(f"{layer}.intermediate.dense.*",                         "stack.layers.{i}.ffn.in_proj.*"),
        Rename(f"{layer}.output.dense.*",                               "stack.layers.{i}.ffn.out_proj.*"),
        Rename(f"{layer}.output.LayerNorm.*",                           "stack.layers.{i}.ffn_norm.*"),
        Drop(f"{base}.embeddings.position_ids",                         why="a buffer, not a weight"),
    )


def type_rules(base: str) -> tuple[Rule, ...]:
    """Return the rules for token types, which all but BertGeneration have."""
    return (
        Rename(f"{base}.embeddings.token_type_embeddings.weight",       "embed.token_types.weight"),
        Drop(f"{base}.embeddings.token_type_ids",                       why="a buffer, not a weight"),
    )


def decoder_rules(head: str, tied: bool) -> tuple[Rule, ...]:
    """Return the rules for the last layer, whose bias has two names."""
    if tied:
        return (
            head_rule(tied, f"{head}.decoder.weight"),
            Drop(f"{head}.decoder.bias", why=f"the same tensor as {head}.bias", same_as="head.bias"),
            Rename(f"{head}.bias",                                      "head.bias"),
        )
    return (
        Rename(f"{head}.decoder.weight",                                "head.weight"),
        Rename(f"{head}.decoder.bias",                                  "head.bias"),  # before the older name
        Rename(f"{head}.bias",                                          "head.bias"),
    )


# In checkpoints of models with other heads.
OTHER_HEADS: tuple[Rule, ...] = (
    Drop("classifier.*",                                                why="a head that a decoder does not need"),
    Drop("qa_outputs.*",                                                why="a head that a decoder does not need"),
)
# In no checkpoint, or not in every one.
FRESH = (*CROSS, "head.*")
# fmt: on
