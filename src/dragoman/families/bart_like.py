"""Shared by BART-like models: fields, network and tensor names.

Fairseq's models, those that came out of them, and Whisper describe their two stacks in these words.
"""

from dataclasses import dataclass, replace
from typing import Any

from dragoman.checkpoint.keymap import Alias, Drop, Rename, Rule
from dragoman.families import base
from dragoman.families.base import Part
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import head_rule
from dragoman.spec import Activation, EmbedNorm, NormOrder
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec, TextPositionSpec

TINY_DECODER: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 24,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 30,
}
TINY: dict[str, Any] = TINY_DECODER | {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 30}
TINY_IDS: dict[str, Any] = base.TINY_IDS | {"decoder_start_token_id": 0}


@dataclass(kw_only=True, init=False, eq=False)
class BartLikeConfig(ModelConfig):
    """The fields of BART-like decoders; the defaults are those of most."""

    vocab_size: int = 50265
    d_model: int = 1024
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    decoder_layerdrop: float = 0.0
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | list[int] | None = 2

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("decoder_layers")
    num_attention_heads = FieldAlias("decoder_attention_heads")

    @property
    def embed_scale(self) -> float:
        """Factor of the embeddings."""
        return float(abs(self.d_model) ** 0.5) if self.scale_embedding else 1.0  # the block rejects widths below 1

    def plain_block(self, norm_order: NormOrder, num_heads: int, ffn_width: int) -> BlockSpec:
        """Describe a block without cross-attention."""
        return BlockSpec(
            self_attn=AttentionSpec(width=self.d_model, num_heads=num_heads, dropout=self.attention_dropout),
            ffn=FeedForwardSpec(
                width=ffn_width, activation=Activation.parse(self.activation_function), dropout=self.activation_dropout
            ),
            norm_order=norm_order,
            dropout=self.dropout,
        )

    def decoder_spec(
        self,
        norm_order: NormOrder,
        num_positions: int,
        positions: TextPositionSpec,
        embed_norm: EmbedNorm | None = None,
    ) -> TextDecoderSpec:
        block = self.plain_block(norm_order, self.decoder_attention_heads, self.decoder_ffn_dim)
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=num_positions,
            embed=TextEmbeddingSpec(
                positions=positions,
                scale=self.embed_scale,
                norm=embed_norm,
                dropout=self.dropout,
                pad_token_id=self.pad_token_id,
            ),
            stack=StackSpec(
                block=replace(block, cross_attn=CrossAttentionSpec()),
                num_layers=self.decoder_layers,
                final_norm=norm_order is NormOrder.PRE,
                layerdrop=self.decoder_layerdrop,
            ),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.init_std,
        )


@dataclass(kw_only=True, init=False, eq=False)
class TwoStackConfig(BartLikeConfig):
    """The fields of BART-like models that were trained with an encoder."""

    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    encoder_layerdrop: float = 0.0
    is_encoder_decoder: bool = True

    def encoder_stack(self) -> StackSpec:
        """Describe the stack of a pre-norm encoder."""
        block = self.plain_block(NormOrder.PRE, self.encoder_attention_heads, self.encoder_ffn_dim)
        return StackSpec(block=block, num_layers=self.encoder_layers, final_norm=True, layerdrop=self.encoder_layerdrop)


# fmt: off
def block_rules(base: str) -> tuple[Rule, ...]:
    """Return the rules for the token embedding and the blocks; `base` begins each of their names."""
    layer = f"{base}.layers.{{i}}"
    return (
        # theirs                                        ours
        Rename(f"{base}.embed_tokens.weight",           "embed.tokens.weight"),
        Rename(f"{layer}.self_attn.q_proj.*",           "stack.layers.{i}.self_attn.q_proj.*"),
        Rename(f"{layer}.self_attn.k_proj.*",           "stack.layers.{i}.self_attn.k_proj.*"),
        Rename(f"{layer}.self_attn.v_proj.*",           "stack.layers.{i}.self_attn.v_proj.*"),
        Rename(f"{layer}.self_attn.out_proj.*",         "stack.layers.{i}.self_attn.out_proj.*"),
        Rename(f"{layer}.self_attn_layer_norm.*",       "stack.layers.{i}.self_attn_norm.*"),
        Rename(f"{layer}.encoder_attn.q_proj.*",        "stack.layers.{i}.cross_attn.q_proj.*"),
        Rename(f"{layer}.encoder_attn.k_proj.*",        "stack.layers.{i}.cross_attn.k_proj.*"),
        Rename(f"{layer}.encoder_attn.v_proj.*",        "stack.layers.{i}.cross_attn.v_proj.*"),
        Rename(f"{layer}.encoder_attn.out_proj.*",      "stack.layers.{i}.cross_attn.out_proj.*"),
        Rename(f"{layer}.encoder_attn_layer_norm.*",    "stack.layers.{i}.cross_attn_norm.*"),
        Rename(f"{layer}.fc1.*",                        "stack.layers.{i}.ffn.in_proj.*"),
        Rename(f"{layer}.fc2.*",                        "stack.layers.{i}.ffn.out_proj.*"),
        Rename(f"{layer}.final_layer_norm.*",           "stack.layers.{i}.ffn_norm.*"),
    )


BLOCKS: tuple[Rule, ...] = (
    *block_rules("model.decoder"),
    Rename("model.decoder.embed_positions.weight",      "embed.positions.weight"),
)
EMBED_NORM = Rename("model.decoder.layernorm_embedding.*", "embed.norm.*")
FINAL_NORM = Rename("model.decoder.layer_norm.*",       "stack.final_norm.*")
# In checkpoints of models with other heads.
OTHER_HEADS: tuple[Rule, ...] = (
    Drop("classification_head.*",                       why="a head that a decoder does not need"),
    Drop("qa_outputs.*",                                why="a head that a decoder does not need"),
)
# A full checkpoint may keep the token embedding only under this name.
SHARED = (
    Alias("shared.weight",                              "model.decoder.embed_tokens.weight"),
    Alias("model.shared.weight",                        "model.decoder.embed_tokens.weight"),
)
# fmt: on


def seq2seq_part(name: str, *more: Rule, computed: tuple[str, ...] = ()) -> Part:
    """Return the decoder of a model that was trained with a text encoder.

    Its checkpoints hold the encoder too, and a bias of the head: a buffer of zeros in BART-like models, but trained in
    Marian. The decoders of `transformers` have no such bias.

    Args:
        name: Its class.
        more: The rules for its norms outside the blocks, and for other heads in its checkpoints.
        computed: As in `Part`.
    """
    bias = "final_logits_bias"
    lost = "`transformers` drops it from a decoder; `keep_final_logits_bias=True` in its configuration keeps it"

    def rules(config: Any) -> tuple[Rule, ...]:
        kept = config.keep_final_logits_bias
        return (
            *BLOCKS,
            Drop("model.encoder.*", why="the text encoder is not used"),
            Rename(bias, "head.bias", row=True) if kept else Drop(bias, why="all zero", lost=lost),
            *more,
            head_rule(config.tie_word_embeddings),
        )

    return Part(
        rules=rules, classes=(name,), prefixes=("model.",), aliases=SHARED, computed=computed, shifts_labels=False
    )
