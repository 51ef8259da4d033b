"""BioGPT (https://arxiv.org/abs/2210.10341), trained on biomedical abstracts."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families.base import TINY_TEXT, Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.rules import INSERTED, head_rule, inserted_rules, other_heads
from dragoman.spec import Activation, NormOrder
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class BioGptConfig(ModelConfig):
    """Fields and defaults of a BioGPT `config.json`."""

    model_type: ClassVar[str] = "biogpt"

    vocab_size: int = 42384
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 1024
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12  # `transformers` ignores it and uses 1e-5
    scale_embedding: bool = True
    layerdrop: float = 0.0
    activation_dropout: float = 0.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def text_spec(self) -> TextDecoderSpec:
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                dropout=self.attention_probs_dropout_prob,
            ),
            ffn=FeedForwardSpec(
                width=self.intermediate_size,
                activation=Activation.parse(self.hidden_act),
                dropout=self.activation_dropout,
            ),
            norm_order=NormOrder.PRE,
            cross_attn=CrossAttentionSpec(gated=True) if self.add_cross_attention else None,
            dropout=self.hidden_dropout_prob,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            embed=TextEmbeddingSpec(
                positions=TextPositionSpec(offset=2, from_mask=True),
                scale=self.hidden_size**0.5 if self.scale_embedding else 1.0,
                dropout=self.hidden_dropout_prob,
                pad_token_id=self.pad_token_id,
            ),
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, final_norm=True, layerdrop=self.layerdrop),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.initializer_range,
        )


# fmt: off
def _rules(config: BioGptConfig) -> tuple[Rule, ...]:
    return (
        # theirs                                           ours
        Rename("biogpt.embed_tokens.weight",               "embed.tokens.weight"),
        Rename("biogpt.embed_positions.weight",            "embed.positions.weight"),
        Rename("biogpt.layers.{i}.self_attn_layer_norm.*", "stack.layers.{i}.self_attn_norm.*"),
        Rename("biogpt.layers.{i}.self_attn.*",            "stack.layers.{i}.self_attn.*"),
        Rename("biogpt.layers.{i}.final_layer_norm.*",     "stack.layers.{i}.ffn_norm.*"),
        Rename("biogpt.layers.{i}.fc1.*",                  "stack.layers.{i}.ffn.in_proj.*"),
        Rename("biogpt.layers.{i}.fc2.*",                  "stack.layers.{i}.ffn.out_proj.*"),
        Rename("biogpt.layer_norm.*",                      "stack.final_norm.*"),
        *other_heads("score.weight", "classifier.*"),
        head_rule(config.tie_word_embeddings, "output_projection.weight"),
        *inserted_rules("biogpt.layers.{i}"),
    )
# fmt: on


FAMILY = Family(
    config=BioGptConfig,
    text=Part(rules=_rules, classes=("BioGptForCausalLM",), prefixes=("biogpt.",), fresh=INSERTED),
    tokenizer="BioGptTokenizer",
    card=Card(
        name="BioGPT",
        paper="https://arxiv.org/abs/2210.10341",
        checkpoints=("microsoft/biogpt",),
        licence="MIT",
    ),
    tiny=TINY_TEXT | {"intermediate_size": 30},
)
