"""Gemma 2 (https://arxiv.org/abs/2408.00118): norms after each sublayer too, capped scores, windows.

A hyperbolic tangent keeps scores and logits below a cap. Every other layer has a window.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import llama_like
from dragoman.families.base import Card, Family
from dragoman.families.free_fields import FieldAlias
from dragoman.families.gemma_like import GemmaLikeConfig
from dragoman.spec import NormOrder, TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Gemma2Config(GemmaLikeConfig):
    """Fields and defaults of a Gemma 2 `config.json`; the defaults are the model of 2 billion parameters."""

    model_type: ClassVar[str] = "gemma2"

    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    hidden_activation: str = "gelu_pytorch_tanh"
    query_pre_attn_scalar: int = 256
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0

    hidden_act: ClassVar = FieldAlias("hidden_activation")  # type: ignore[misc]  # Gemma 1's name

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        if self.layer_types is None:
            self.layer_types = llama_like.alternating(self.num_hidden_layers, self.pattern)

    @property
    def pattern(self) -> int:
        """One layer in N has no window, unless `layer_types` says otherwise."""
        return 2

    def text_spec(self) -> TextDecoderSpec:
        spec = super().text_spec()
        block = spec.stack.block
        attention = replace(
            block.self_attn, score_width=self.query_pre_attn_scalar, score_cap=self.attn_logit_softcapping
        )
        stack = replace(spec.stack, block=replace(block, self_attn=attention, norm_order=NormOrder.BOTH))
        stack = llama_like.windowed(stack, self.layer_types, self.sliding_window)
        return replace(spec, stack=stack, head=replace(spec.head, cap=self.final_logit_softcapping))


# fmt: off
def rules(config: Gemma2Config) -> tuple[Rule, ...]:
    """Return the rules, to which Gemma 3 adds its own."""
    layer, ours = "model.layers.{i}.", "stack.layers.{i}."
    return (
        # theirs                                            ours
        *llama_like.rules(config, before_ffn="pre_feedforward_layernorm"),
        Rename(layer + "post_attention_layernorm.weight",   ours + "self_attn_post_norm.weight"),
        Rename(layer + "post_feedforward_layernorm.weight", ours + "ffn_post_norm.weight"),
    )
# fmt: on


TINY = llama_like.TINY | {"head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 5}
FAMILY = Family(
    config=Gemma2Config,
    text=llama_like.part("Gemma2ForCausalLM", table=rules),
    other_tokenizers=("GemmaTokenizer",),
    card=Card(
        name="Gemma 2",
        paper="https://arxiv.org/abs/2408.00118",
        checkpoints=("google/gemma-2-2b", "google/gemma-2-9b-it"),
        licence="Gemma terms of use; gated",
        own="norms before and after each sublayer, capped scores and logits, a window in every other layer",
    ),
    tiny=TINY
    | {  # caps so low that tiny weights reach them
        "attn_logit_softcapping": 1.5,
        "final_logit_softcapping": 2.0,
    },
    variants={
        "no-caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        "no-windows": {"layer_types": ["full_attention"] * 2, "attention_bias": True},
    },
)
