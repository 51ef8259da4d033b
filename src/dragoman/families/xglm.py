"""XGLM (https://arxiv.org/abs/2112.10668): a multilingual language model with the blocks of mBART's decoder."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import bart_like
from dragoman.families.base import Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import CROSS, head_rule
from dragoman.spec import Activation, NormOrder, Positions
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class XGLMConfig(ModelConfig):
    """Fields and defaults of an XGLM `config.json`; the defaults are xglm-564M."""

    model_type: ClassVar[str] = "xglm"

    vocab_size: int = 256008
    max_position_embeddings: int = 2048
    d_model: int = 1024
    ffn_dim: int = 4096
    num_layers: int = 24
    attention_heads: int = 16
    activation_function: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layerdrop: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | list[int] | None = 2

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("num_layers")
    num_attention_heads = FieldAlias("attention_heads")

    def text_spec(self) -> TextDecoderSpec:
        block = BlockSpec(
            self_attn=AttentionSpec(width=self.d_model, num_heads=self.attention_heads, dropout=self.attention_dropout),
            ffn=FeedForwardSpec(
                width=self.ffn_dim,
                activation=Activation.parse(self.activation_function),
                dropout=self.activation_dropout,
            ),
            norm_order=NormOrder.PRE,
            cross_attn=CrossAttentionSpec() if self.add_cross_attention else None,
            dropout=self.dropout,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            embed=TextEmbeddingSpec(
                positions=TextPositionSpec(kind=Positions.COMPUTED, offset=2),
                scale=self.d_model**0.5 if self.scale_embedding else 1.0,
                dropout=self.dropout,
                pad_token_id=self.pad_token_id,
            ),
            stack=StackSpec(block=block, num_layers=self.num_layers, final_norm=True, layerdrop=self.layerdrop),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.init_std,
        )


def _rules(config: XGLMConfig) -> tuple[Rule, ...]:
    return (
        *bart_like.block_rules("model"),
        Rename("model.layer_norm.*", "stack.final_norm.*"),
        Drop("model.embed_positions.weights", why="computed, not learned"),
        head_rule(config.tie_word_embeddings),
    )


FAMILY = Family(
    config=XGLMConfig,
    text=Part(
        rules=_rules,
        classes=("XGLMForCausalLM",),
        prefixes=("model.",),
        fresh=CROSS,
    ),
    tokenizer="XGLMTokenizer",
    card=Card(
        name="XGLM",
        paper="https://arxiv.org/abs/2112.10668",
        checkpoints=("facebook/xglm-564M",),
        licence="MIT",
        ends="`</s>` for both",
    ),
    tiny={
        "vocab_size": 99,
        "d_model": 24,
        "num_layers": 2,
        "attention_heads": 4,
        "ffn_dim": 30,
        "max_position_embeddings": 64,
    },
)
