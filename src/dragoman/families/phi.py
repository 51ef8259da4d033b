"""Phi (https://arxiv.org/abs/2306.11644): attention and feed-forward network read the same normalised states."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families.base import TINY_IDS, TINY_TEXT, Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.rope import longest_text, rope_parameters_of, rotary_of
from dragoman.families.rules import INSERTED, head_rule, inserted_rules, other_heads
from dragoman.spec import Activation, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec


@dataclass(kw_only=True, init=False, eq=False)
class PhiConfig(ModelConfig):
    """Fields and defaults of a Phi `config.json`; the defaults are phi-1."""

    model_type: ClassVar[str] = "phi"

    vocab_size: int = 51200
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 24
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0
    attention_dropout: float = 0.0
    hidden_act: str = "gelu_new"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    rope_parameters: dict[str, Any] | None = None
    qk_layernorm: bool = False
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        self.rope_parameters = rope_parameters_of(self.rope_parameters, self.extra, share=0.5)

    def text_spec(self) -> TextDecoderSpec:
        head_width, rope = self.hidden_size // max(self.num_attention_heads, 1), self.rope_parameters or {}
        norm = NormSpec(eps=self.layer_norm_eps)
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                num_kv_heads=self.num_key_value_heads,
                dropout=self.attention_dropout,
                query_norm=norm if self.qk_layernorm else None,
                rotary=rotary_of(rope, head_width, self.max_position_embeddings),
            ),
            ffn=FeedForwardSpec(width=self.intermediate_size, activation=Activation.parse(self.hidden_act)),
            norm_order=NormOrder.SHARED,
            norm=norm,
            cross_attn=CrossAttentionSpec(gated=True) if self.add_cross_attention else None,
            dropout=self.resid_pdrop,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=longest_text(rope, self.max_position_embeddings),
            embed=TextEmbeddingSpec(positions=None, dropout=self.embd_pdrop, pad_token_id=self.pad_token_id),
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, final_norm=True),
            head=HeadSpec(tied=self.tie_word_embeddings, bias=True),
            init_std=self.initializer_range,
        )


# fmt: off
_NORMS: tuple[Rule, ...] = (
    Rename("model.layers.{i}.self_attn.q_layernorm.*",   "stack.layers.{i}.self_attn.q_norm.*"),
    Rename("model.layers.{i}.self_attn.k_layernorm.*",   "stack.layers.{i}.self_attn.k_norm.*"),
)


def _rules(config: PhiConfig) -> tuple[Rule, ...]:
    layer, ours = "model.layers.{i}.", "stack.layers.{i}."
    return (
        # theirs                                         ours
        Rename("model.embed_tokens.weight",              "embed.tokens.weight"),
        Rename(layer + "input_layernorm.*",              ours + "self_attn_norm.*"),
        Rename(layer + "self_attn.q_proj.*",             ours + "self_attn.q_proj.*"),
        Rename(layer + "self_attn.k_proj.*",             ours + "self_attn.k_proj.*"),
        Rename(layer + "self_attn.v_proj.*",             ours + "self_attn.v_proj.*"),
        Rename(layer + "self_attn.dense.*",              ours + "self_attn.out_proj.*"),
        Rename(layer + "mlp.fc1.*",                      ours + "ffn.in_proj.*"),
        Rename(layer + "mlp.fc2.*",                      ours + "ffn.out_proj.*"),
        Rename("model.final_layernorm.*",                "stack.final_norm.*"),
        Rename("lm_head.bias",                           "head.bias"),
        Drop(layer + "self_attn.rotary_emb.inv_freq",    why="a buffer, not a weight"),
        *other_heads("score.*"),
        head_rule(config.tie_word_embeddings),
        *inserted_rules("model.layers.{i}"),
        *(_NORMS if config.qk_layernorm else ()),
    )
# fmt: on


FAMILY = Family(
    config=PhiConfig,
    text=Part(rules=_rules, classes=("PhiForCausalLM",), prefixes=("model.",), fresh=(*INSERTED, "head.*")),
    card=Card(
        name="Phi 1, 1.5 and 2",
        paper="https://arxiv.org/abs/2306.11644",
        checkpoints=("microsoft/phi-1_5", "microsoft/phi-2"),
        licence="MIT",
        own="attention and feed-forward network read the same normalised states",
    ),
    tiny=TINY_TEXT | TINY_IDS | {"hidden_size": 32, "intermediate_size": 30, "num_key_value_heads": 2},
    variants={"normed": {"qk_layernorm": True, "tie_word_embeddings": True, "num_key_value_heads": 4}},
)
