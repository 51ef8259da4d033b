"""OPT (https://arxiv.org/abs/2205.01068)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families.base import TINY_IDS, TINY_TEXT, Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.rules import INSERTED, head_rule, inserted_rules, other_heads
from dragoman.spec import Activation, NormOrder
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class OPTConfig(ModelConfig):
    """Fields and defaults of an OPT `config.json`; the defaults are the smallest model."""

    model_type: ClassVar[str] = "opt"

    vocab_size: int = 50272
    hidden_size: int = 768
    num_hidden_layers: int = 12
    ffn_dim: int = 3072
    max_position_embeddings: int = 2048
    do_layer_norm_before: bool = True
    word_embed_proj_dim: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    num_attention_heads: int = 12
    activation_function: str = "relu"
    layerdrop: float = 0.0
    init_std: float = 0.02
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True
    _remove_final_layer_norm: bool = False
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        """Fill in the field that follows from another."""
        super().__post_init__()
        if self.word_embed_proj_dim is None:
            self.word_embed_proj_dim = self.hidden_size

    def text_spec(self) -> TextDecoderSpec:
        if not self.layer_norm_elementwise_affine:
            raise ConfigError(
                "`layer_norm_elementwise_affine` must be true, but is false: norms without weights are not supported. "
                "Use opt-125m or opt-1.3b, for instance."
            )
        narrow = self.word_embed_proj_dim != self.hidden_size
        bias, activation = self.enable_bias, Activation.parse(self.activation_function)
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                qkv_bias=bias,
                out_bias=bias,
                dropout=self.attention_dropout,
            ),
            ffn=FeedForwardSpec(width=self.ffn_dim, activation=activation, bias=bias),
            norm_order=NormOrder.PRE if self.do_layer_norm_before else NormOrder.POST,
            cross_attn=CrossAttentionSpec(gated=True) if self.add_cross_attention else None,
            dropout=self.dropout,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            embed=TextEmbeddingSpec(
                positions=TextPositionSpec(offset=2, from_mask=True),
                width=self.word_embed_proj_dim if narrow else None,
                project_tokens=narrow,
                pad_token_id=self.pad_token_id,
            ),
            stack=StackSpec(
                block=block,
                num_layers=self.num_hidden_layers,
                final_norm=self.do_layer_norm_before and not self._remove_final_layer_norm,
                layerdrop=self.layerdrop,
            ),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.init_std,
        )


# fmt: off
_PROJECTIONS: tuple[Rule, ...] = (  # only opt-350m has them
    Rename("model.decoder.project_in.weight",                     "embed.proj.weight"),
    Rename("model.decoder.project_out.weight",                    "head.back.weight"),
)


def _rules(config: OPTConfig) -> tuple[Rule, ...]:
    return (
        # theirs                                                  ours
        Rename("model.decoder.embed_tokens.weight",               "embed.tokens.weight"),
        Rename("model.decoder.embed_positions.weight",            "embed.positions.weight"),
        Rename("model.decoder.layers.{i}.self_attn_layer_norm.*", "stack.layers.{i}.self_attn_norm.*"),
        Rename("model.decoder.layers.{i}.self_attn.*",            "stack.layers.{i}.self_attn.*"),
        Rename("model.decoder.layers.{i}.final_layer_norm.*",     "stack.layers.{i}.ffn_norm.*"),
        Rename("model.decoder.layers.{i}.fc1.*",                  "stack.layers.{i}.ffn.in_proj.*"),
        Rename("model.decoder.layers.{i}.fc2.*",                  "stack.layers.{i}.ffn.out_proj.*"),
        Rename("model.decoder.final_layer_norm.*",                "stack.final_norm.*"),
        *other_heads("score.weight", "qa_outputs.*"),
        head_rule(config.tie_word_embeddings),
        *inserted_rules("model.decoder.layers.{i}"),
        *(_PROJECTIONS if config.word_embed_proj_dim != config.hidden_size else ()),
    )
# fmt: on


FAMILY = Family(
    config=OPTConfig,
    text=Part(rules=_rules, classes=("OPTForCausalLM",), prefixes=("model.",), fresh=(*INSERTED, "head.weight")),
    tokenizer="GPT2Tokenizer",
    card=Card(
        name="OPT",
        paper="https://arxiv.org/abs/2205.01068",
        checkpoints=("facebook/opt-125m", "facebook/opt-1.3b"),
        licence="OPT licence, not commercial",
        own="learned positions",
    ),
    tiny=TINY_TEXT | TINY_IDS | {"ffn_dim": 30, "word_embed_proj_dim": 24},
    variants={
        "350m": {"word_embed_proj_dim": 16, "do_layer_norm_before": False},
        "no-bias": {"enable_bias": False},
    },
)
