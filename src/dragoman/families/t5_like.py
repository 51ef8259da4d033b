"""Shared by T5 and mT5: fields, decoder and tensor names."""

from dataclasses import dataclass
from typing import Any

from dragoman.checkpoint.keymap import Alias, Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families.base import Part, always
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import head_rule, other_heads
from dragoman.spec import Activation, BucketBiasSpec, Norm, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec

_LONGEST = 1024  # tokens; relative positions have no limit, so this one is ours

TINY: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 30,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}


@dataclass(kw_only=True, init=False, eq=False)
class T5LikeConfig(ModelConfig):
    """The fields that T5 and mT5 share."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | list[int] | None = 0

    hidden_size = FieldAlias("d_model")
    num_attention_heads = FieldAlias("num_heads")
    num_hidden_layers = FieldAlias("num_layers")
    head_dim = FieldAlias("d_kv")

    def __post_init__(self) -> None:
        """Give the decoder as many layers as the text encoder, unless the file says otherwise."""
        super().__post_init__()
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers

    @property
    def tied(self) -> bool:
        """Whether the head is the scaled token embedding."""
        return False

    def text_spec(self) -> TextDecoderSpec:
        gated = self.feed_forward_proj.startswith("gated-")
        activation = self.feed_forward_proj.removeprefix("gated-")
        if activation.startswith("gated"):
            raise ConfigError(
                f"`feed_forward_proj` must be an activation, perhaps after 'gated-', but is {self.feed_forward_proj!r}."
            )
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.d_model,
                num_heads=self.num_heads,
                head_width=self.d_kv,
                qkv_bias=False,
                out_bias=False,
                score_width=1,
                dropout=self.dropout_rate,
            ),
            ffn=FeedForwardSpec(
                width=self.d_ff,
                activation=Activation.parse("gelu_new" if gated and activation == "gelu" else activation),
                gated=gated,
                bias=False,
                dropout=self.dropout_rate,
            ),
            norm_order=NormOrder.PRE,
            norm=NormSpec(kind=Norm.RMS, eps=self.layer_norm_epsilon),
            cross_attn=CrossAttentionSpec(),
            dropout=self.dropout_rate,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=_LONGEST,
            embed=TextEmbeddingSpec(
                positions=None, dropout=self.dropout_rate, pad_token_id=self.pad_token_id, trains_padding=True
            ),
            position_bias=BucketBiasSpec(
                num_buckets=self.relative_attention_num_buckets, max_distance=self.relative_attention_max_distance
            ),
            stack=StackSpec(block=block, num_layers=self.num_decoder_layers or 0, final_norm=True),
            head=HeadSpec(tied=self.tied, scale=self.d_model**-0.5 if self.tied else 1.0),
            init_std=self.initializer_factor * self.d_model**-0.5,
        )


# fmt: off
def rules(config: T5LikeConfig) -> tuple[Rule, ...]:
    """Return the rules of T5 and mT5."""
    layer, bias = "decoder.block.{i}.layer", "relative_attention_bias.weight"
    gated = config.feed_forward_proj.startswith("gated-")
    return (
        # theirs                                        ours
        Rename("shared.weight",                         "embed.tokens.weight"),
        Rename(f"{layer}.0.SelfAttention.q.*",          "stack.layers.{i}.self_attn.q_proj.*"),
        Rename(f"{layer}.0.SelfAttention.k.*",          "stack.layers.{i}.self_attn.k_proj.*"),
        Rename(f"{layer}.0.SelfAttention.v.*",          "stack.layers.{i}.self_attn.v_proj.*"),
        Rename(f"{layer}.0.SelfAttention.o.*",          "stack.layers.{i}.self_attn.out_proj.*"),
        Rename(f"{layer}.0.layer_norm.*",               "stack.layers.{i}.self_attn_norm.*"),
        Rename(f"{layer}.1.EncDecAttention.q.*",        "stack.layers.{i}.cross_attn.q_proj.*"),
        Rename(f"{layer}.1.EncDecAttention.k.*",        "stack.layers.{i}.cross_attn.k_proj.*"),
        Rename(f"{layer}.1.EncDecAttention.v.*",        "stack.layers.{i}.cross_attn.v_proj.*"),
        Rename(f"{layer}.1.EncDecAttention.o.*",        "stack.layers.{i}.cross_attn.out_proj.*"),
        Rename(f"{layer}.1.layer_norm.*",               "stack.layers.{i}.cross_attn_norm.*"),
        *((
            Rename(f"{layer}.2.DenseReluDense.wi_0.*",  "stack.layers.{i}.ffn.gate_proj.*"),
            Rename(f"{layer}.2.DenseReluDense.wi_1.*",  "stack.layers.{i}.ffn.in_proj.*"),
        ) if gated else (
            Rename(f"{layer}.2.DenseReluDense.wi.*",    "stack.layers.{i}.ffn.in_proj.*"),
        )),
        Rename(f"{layer}.2.DenseReluDense.wo.*",        "stack.layers.{i}.ffn.out_proj.*"),
        Rename(f"{layer}.2.layer_norm.*",               "stack.layers.{i}.ffn_norm.*"),
        Rename(f"decoder.block.0.layer.0.SelfAttention.{bias}", "position_bias.embed.weight"),
        Rename("decoder.final_layer_norm.*",            "stack.final_norm.*"),
        Drop(f"decoder.block.0.layer.1.EncDecAttention.{bias}", why="not used, even where it was trained"),
        Drop("encoder.*",                               why="the text encoder is not used"),
        *other_heads("qa_outputs.*"),
        head_rule(config.tied),
    )
# fmt: on


# The decoder's name of the embedding that it shares with the text encoder.
_ALIASES = (Alias("decoder.embed_tokens.weight", "shared.weight"),)
_COPIES = (("head.weight", "embed.tokens.weight"),)


def part(decoder: str) -> Part:
    """Return the text decoder of a T5-like family, given the name of its class."""
    return Part(rules=rules, classes=(decoder,), public=False, aliases=_ALIASES, copies=_COPIES, apart=always)
