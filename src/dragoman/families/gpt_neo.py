"""GPT-Neo (https://doi.org/10.5281/zenodo.5297715): GPT-2 with unscaled scores and a window in some layers."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import gpt2_like
from dragoman.families.base import TINY_IDS, Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import INSERTED, inserted_rules, other_heads
from dragoman.spec import Activation, NormOrder, NormSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, LocalAttentionSpec, StackSpec
from dragoman.spec.checks import MOST_LAYERS
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class GPTNeoConfig(ModelConfig):
    """Fields and defaults of a GPT-Neo `config.json`; the defaults are the model of 1.3 billion parameters.

    `attention_types` is a short form of `attention_layers`, which has "global" or "local" (a window) for each layer.
    """

    model_type: ClassVar[str] = "gpt_neo"

    vocab_size: int = 50257
    max_position_embeddings: int = 2048
    hidden_size: int = 2048
    num_layers: int = 24
    attention_types: list[Any] | None = None
    attention_layers: list[str] | None = None
    num_heads: int = 16
    intermediate_size: int | None = None
    window_size: int = 256
    activation_function: str = "gelu_new"
    resid_dropout: float = 0.0
    embed_dropout: float = 0.0
    attention_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    num_hidden_layers = FieldAlias("num_layers")
    num_attention_heads = FieldAlias("num_heads")

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        self.attention_types = self.attention_types or [[["global", "local"], 12]]
        self.attention_layers = _layer_by_layer(self.attention_types)

    def text_spec(self) -> TextDecoderSpec:
        kinds = self.attention_layers or []
        if len(kinds) != self.num_layers or not set(kinds) <= {"global", "local"}:
            wanted = f'"global" or "local" for each of the {self.num_layers} layers'
            raise ConfigError(f"`attention_types` must say {wanted}, but says {kinds}.")
        layers = frozenset(i for i, kind in enumerate(kinds) if kind == "local")
        local = LocalAttentionSpec(window=self.window_size, layers=layers)
        width, activation = self.intermediate_size or 4 * self.hidden_size, Activation.parse(self.activation_function)
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_heads,
                qkv_bias=False,
                score_width=1,
                dropout=self.attention_dropout,
            ),
            ffn=FeedForwardSpec(width=width, activation=activation),
            norm_order=NormOrder.PRE,
            norm=NormSpec(eps=self.layer_norm_epsilon),
            cross_attn=CrossAttentionSpec(gated=True) if self.add_cross_attention else None,
            dropout=self.resid_dropout,
        )
        positions = TextPositionSpec(from_mask=True)
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            embed=TextEmbeddingSpec(
                positions=positions, dropout=self.embed_dropout, pad_token_id=self.pad_token_id, trains_padding=True
            ),
            stack=StackSpec(block=block, num_layers=self.num_layers, final_norm=True, local=local),
            head=HeadSpec(tied=self.tie_word_embeddings),
            init_std=self.initializer_range,
        )


def _layer_by_layer(types: list[Any]) -> list[str]:
    try:
        return [str(kind) for kinds, times in types for kind in kinds * min(times, MOST_LAYERS)]
    except (TypeError, ValueError):
        raise ConfigError(f'`attention_types` must be like [[["global"], 24]], but is {types!r:.80}.') from None


# fmt: off
def _rules(config: GPTNeoConfig) -> tuple[Rule, ...]:
    theirs, ours = "transformer.h.{i}.attn.attention.", "stack.layers.{i}.self_attn."
    return (
        # theirs                         ours
        *gpt2_like.rules_around(config),
        Rename(theirs + "q_proj.weight", ours + "q_proj.weight"),
        Rename(theirs + "k_proj.weight", ours + "k_proj.weight"),
        Rename(theirs + "v_proj.weight", ours + "v_proj.weight"),
        Rename(theirs + "out_proj.*",    ours + "out_proj.*"),
        Drop(theirs + "bias",            why="a mask buffer, not a weight"),
        Drop(theirs + "masked_bias",     why="a mask buffer, not a weight"),
        *other_heads("qa_outputs.*"),
        *inserted_rules("transformer.h.{i}"),
    )
# fmt: on


FAMILY = Family(
    config=GPTNeoConfig,
    text=Part(rules=_rules, classes=("GPTNeoForCausalLM",), prefixes=("transformer.",), fresh=INSERTED),
    tokenizer="GPT2Tokenizer",
    card=Card(
        name="GPT-Neo",
        paper="https://doi.org/10.5281/zenodo.5297715",
        checkpoints=("EleutherAI/gpt-neo-125m", "EleutherAI/gpt-neo-1.3B"),
        licence="MIT",
        own="unscaled scores, a window in every other layer",
    ),
    tiny=TINY_IDS
    | {
        "vocab_size": 99,
        "hidden_size": 24,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 30,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
        "max_position_embeddings": 64,
    },
    variants={"global": {"attention_types": [[["global"], 2]], "tie_word_embeddings": False}},
)
