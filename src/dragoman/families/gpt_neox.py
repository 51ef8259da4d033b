"""GPT-NeoX and Pythia (https://arxiv.org/abs/2204.06745): attention and feed-forward read the same states."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule, Split
from dragoman.families.base import TINY_IDS, TINY_TEXT, Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.rope import longest_text, rope_parameters_of, rotary_of
from dragoman.families.rules import INSERTED, head_rule, inserted_rules, other_heads
from dragoman.spec import Activation, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec


@dataclass(kw_only=True, init=False, eq=False)
class GPTNeoXConfig(ModelConfig):
    """Fields and defaults of a GPT-NeoX `config.json`; the defaults are the model of 20 billion parameters."""

    model_type: ClassVar[str] = "gpt_neox"

    vocab_size: int = 50432
    hidden_size: int = 6144
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    intermediate_size: int = 24576
    hidden_act: str = "gelu"
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_parallel_residual: bool = True
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        """Complete `rope_parameters` from the names of earlier releases."""
        super().__post_init__()
        old = {"rope_theta": self.extra.get("rotary_emb_base"), "partial_rotary_factor": self.extra.get("rotary_pct")}
        known = {name: value for name, value in old.items() if value is not None}
        self.rope_parameters = rope_parameters_of({**known, **(self.rope_parameters or {})}, self.extra, share=0.25)

    def text_spec(self) -> TextDecoderSpec:
        head_width, rope = self.hidden_size // max(self.num_attention_heads, 1), self.rope_parameters or {}
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                qkv_bias=self.attention_bias,
                out_bias=self.attention_bias,
                dropout=self.attention_dropout,
                rotary=rotary_of(rope, head_width, self.max_position_embeddings),
            ),
            ffn=FeedForwardSpec(width=self.intermediate_size, activation=Activation.parse(self.hidden_act)),
            norm_order=NormOrder.PARALLEL if self.use_parallel_residual else NormOrder.PRE,
            norm=NormSpec(eps=self.layer_norm_eps),
            cross_attn=CrossAttentionSpec(gated=True) if self.add_cross_attention else None,
            dropout=self.hidden_dropout,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=longest_text(rope, self.max_position_embeddings),
            embed=TextEmbeddingSpec(
                positions=None, dropout=self.hidden_dropout, pad_token_id=self.pad_token_id, trains_padding=True
            ),
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, final_norm=True),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.initializer_range,
        )


_SELF = "stack.layers.{i}.self_attn."


# fmt: off
def _rules(config: GPTNeoXConfig) -> tuple[Rule, ...]:
    return (
        # theirs                                                      ours; q, k, v are stored head by head
        Rename("gpt_neox.embed_in.weight",                            "embed.tokens.weight"),
        Rename("gpt_neox.layers.{i}.input_layernorm.*",               "stack.layers.{i}.self_attn_norm.*"),
        Split("gpt_neox.layers.{i}.attention.query_key_value.*",
              into=(_SELF + "q_proj.*", _SELF + "k_proj.*", _SELF + "v_proj.*"), groups=config.num_attention_heads),
        Rename("gpt_neox.layers.{i}.attention.dense.*",               _SELF + "out_proj.*"),
        Rename("gpt_neox.layers.{i}.post_attention_layernorm.*",      "stack.layers.{i}.ffn_norm.*"),
        Rename("gpt_neox.layers.{i}.mlp.dense_h_to_4h.*",             "stack.layers.{i}.ffn.in_proj.*"),
        Rename("gpt_neox.layers.{i}.mlp.dense_4h_to_h.*",             "stack.layers.{i}.ffn.out_proj.*"),
        Rename("gpt_neox.final_layer_norm.*",                         "stack.final_norm.*"),
        Drop("gpt_neox.layers.{i}.attention.bias",                    why="a mask buffer, not a weight"),
        Drop("gpt_neox.layers.{i}.attention.masked_bias",             why="a mask buffer, not a weight"),
        Drop("gpt_neox.layers.{i}.attention.rotary_emb.inv_freq",     why="a buffer, not a weight"),
        *other_heads("score.*", "classifier.*", "qa_outputs.*"),
        head_rule(config.tie_word_embeddings, "embed_out.weight"),
        *inserted_rules("gpt_neox.layers.{i}"),
    )
# fmt: on


FAMILY = Family(
    config=GPTNeoXConfig,
    text=Part(rules=_rules, classes=("GPTNeoXForCausalLM",), prefixes=("gpt_neox.",), fresh=(*INSERTED, "head.weight")),
    other_tokenizers=("GPTNeoXTokenizer",),
    card=Card(
        name="GPT-NeoX, Pythia",
        paper="https://arxiv.org/abs/2204.06745",
        checkpoints=("EleutherAI/pythia-160m", "EleutherAI/gpt-neox-20b"),
        licence="Apache-2.0",
        own="attention and feed-forward network read the same states",
    ),
    tiny=TINY_TEXT | TINY_IDS | {"hidden_size": 32, "intermediate_size": 30},
    variants={"serial": {"use_parallel_residual": False, "attention_bias": False}},
)
