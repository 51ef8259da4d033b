"""Shared by Llama-like models: fields, network and tensor names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families.base import TINY_IDS, TINY_TEXT, Part
from dragoman.families.config import ModelConfig
from dragoman.families.rope import longest_text, rope_parameters_of, rotary_of
from dragoman.families.rules import INSERTED, head_rule, inserted_rules, other_heads
from dragoman.spec import Activation, Norm, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, LocalAttentionSpec, StackSpec
from dragoman.spec.checks import MOST_LAYERS
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec

TINY = TINY_TEXT | TINY_IDS | {"intermediate_size": 30, "num_key_value_heads": 2}


@dataclass(kw_only=True, init=False, eq=False)
class LlamaLikeConfig(ModelConfig):
    """The fields that Llama-like models share."""

    default_theta: ClassVar[float] = 10_000.0  # base of rotary positions, where the file has none
    default_share: ClassVar[float | None] = None  # part of each head that they rotate, likewise
    interleaved: ClassVar[bool] = False  # whether these pair neighbouring channels

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_parameters: dict[str, Any] | None = None
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        written = {"rope_theta": self.default_theta, **self.extra}
        self.rope_parameters = rope_parameters_of(self.rope_parameters, written, self.default_share)

    def head_width(self, given: int | None) -> int:
        """Return the width of a head: `given`, or what follows from the number of heads."""
        return given if given is not None else self.hidden_size // max(self.num_attention_heads, 1)

    @property
    def rope(self) -> dict[str, Any]:
        """The `rope_parameters` of the layers without a window."""
        return self.rope_parameters or {}

    def decoder_spec(
        self, *, head_width: int, qkv_bias: bool, out_bias: bool, ffn_bias: bool, norm: Norm = Norm.RMS
    ) -> TextDecoderSpec:
        rotary = rotary_of(self.rope, head_width, self.max_position_embeddings)
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                num_kv_heads=self.num_key_value_heads,
                head_width=head_width,
                qkv_bias=qkv_bias,
                out_bias=out_bias,
                dropout=self.attention_dropout,
                rotary=replace(rotary, interleaved=self.interleaved),
            ),
            ffn=FeedForwardSpec(
                width=self.intermediate_size, activation=Activation.parse(self.hidden_act), gated=True, bias=ffn_bias
            ),
            norm_order=NormOrder.PRE,
            norm=NormSpec(kind=norm, eps=self.rms_norm_eps),
            cross_attn=CrossAttentionSpec(gated=True) if self.add_cross_attention else None,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=longest_text(self.rope, self.max_position_embeddings),
            embed=TextEmbeddingSpec(positions=None, pad_token_id=self.pad_token_id),
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, final_norm=True),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.initializer_range,
        )


def alternating(layers: int, every: int) -> list[str]:
    """Return `layer_types` in which every N-th layer has no window."""
    count = min(max(layers, 0), MOST_LAYERS)  # the stack rejects more
    return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(count)]


def windowed(stack: StackSpec, kinds: Sequence[str] | None, window: int | None) -> StackSpec:
    """Return the stack with a window in each layer of kind "sliding_attention".

    Raises:
        ConfigError: If `layer_types` does not fit the layers.
    """
    kinds = kinds or []
    if len(kinds) != stack.num_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise ConfigError(
            f'`layer_types` must be "full_attention" or "sliding_attention" for each of the {stack.num_layers} '
            f"layers, but is {kinds}."
        )
    layers = frozenset(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    if layers and window is None:
        raise ConfigError('Some `layer_types` are "sliding_attention", so `sliding_window` must be a number.')
    return replace(stack, local=None if window is None else LocalAttentionSpec(window=window, layers=layers))


def windowed_everywhere(stack: StackSpec, window: int | None) -> StackSpec:
    """Return the stack with a window in every layer, or in none if `window` is `None`."""
    return windowed(stack, ["sliding_attention"] * stack.num_layers, window) if window is not None else stack


# fmt: off
def rules(config: LlamaLikeConfig, before_ffn: str = "post_attention_layernorm") -> tuple[Rule, ...]:
    """Return the rules; `before_ffn` is their name of the norm before the feed-forward network."""
    return (
        # theirs                                                  ours
        *rules_around(config, before_ffn),
        Rename("model.layers.{i}.self_attn.q_proj.*",             "stack.layers.{i}.self_attn.q_proj.*"),
        Rename("model.layers.{i}.self_attn.k_proj.*",             "stack.layers.{i}.self_attn.k_proj.*"),
        Rename("model.layers.{i}.self_attn.v_proj.*",             "stack.layers.{i}.self_attn.v_proj.*"),
        Rename("model.layers.{i}.mlp.gate_proj.*",                "stack.layers.{i}.ffn.gate_proj.*"),
        Rename("model.layers.{i}.mlp.up_proj.*",                  "stack.layers.{i}.ffn.in_proj.*"),
    )


def rules_around(config: LlamaLikeConfig, before_ffn: str = "post_attention_layernorm") -> tuple[Rule, ...]:
    """Return the rules for all but the projections that Phi-3 fuses."""
    return (
        # theirs                                                  ours
        Rename("model.embed_tokens.weight",                       "embed.tokens.weight"),
        Rename("model.layers.{i}.input_layernorm.*",              "stack.layers.{i}.self_attn_norm.*"),
        Rename("model.layers.{i}.self_attn.o_proj.*",             "stack.layers.{i}.self_attn.out_proj.*"),
        Rename(f"model.layers.{{i}}.{before_ffn}.*",              "stack.layers.{i}.ffn_norm.*"),
        Rename("model.layers.{i}.mlp.down_proj.*",                "stack.layers.{i}.ffn.out_proj.*"),
        Rename("model.norm.*",                                    "stack.final_norm.*"),
        Drop("model.layers.{i}.self_attn.rotary_emb.inv_freq",    why="a buffer, not a weight"),
        *other_heads("score.*"),
        head_rule(config.tie_word_embeddings),
        *inserted_rules("model.layers.{i}"),
    )
# fmt: on


def part(*classes: str, table: Any = rules) -> Part:
    """Return the text decoder of a Llama-like family."""
    return Part(rules=table, classes=classes, prefixes=("model.",), fresh=(*INSERTED, "head.weight"))
