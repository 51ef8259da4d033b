"""Granite (https://arxiv.org/abs/2405.04324): Llama with factors of embeddings, scores, branches and logits."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rule
from dragoman.errors import ConfigError
from dragoman.families import llama_like
from dragoman.families.base import Card, Family
from dragoman.families.rope import TINY_ROPES
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class GraniteConfig(llama_like.LlamaLikeConfig):
    """Fields and defaults of a Granite `config.json`."""

    model_type: ClassVar[str] = "granite"

    attention_bias: bool = False
    mlp_bias: bool = False
    embedding_multiplier: float = 1.0
    logits_scaling: float = 1.0
    residual_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def text_spec(self) -> TextDecoderSpec:
        factors = ("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier")
        for name in factors:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"`{name}` must be above 0 and finite, but is {getattr(self, name)!r}.")
        head, bias = self.head_width(self.extra.get("head_dim")), self.attention_bias
        spec = self.decoder_spec(head_width=head, qkv_bias=bias, out_bias=bias, ffn_bias=self.mlp_bias)
        block = spec.stack.block
        attention = replace(block.self_attn, score_factor=self.attention_multiplier)
        block = replace(block, self_attn=attention, residual_scale=self.residual_multiplier)
        return replace(
            spec.with_block(block),
            embed=replace(spec.embed, scale=self.embedding_multiplier),
            head=replace(spec.head, scale=1 / self.logits_scaling),
        )


def _rules(config: GraniteConfig) -> tuple[Rule, ...]:
    """Return Llama's rules; no Granite has a head for classes."""
    return tuple(rule for rule in llama_like.rules(config) if rule.theirs != "score.*")


FAMILY = Family(
    config=GraniteConfig,
    text=llama_like.part("GraniteForCausalLM", table=_rules),
    card=Card(
        name="Granite 3 and 4 (dense)",
        paper="https://arxiv.org/abs/2405.04324",
        checkpoints=("ibm-granite/granite-3.3-2b-instruct", "ibm-granite/granite-3.1-2b-base"),
        licence="Apache-2.0",
        own="factors of embeddings, scores, residual branches and logits; no mixtures of experts, no hybrids",
    ),
    tiny=llama_like.TINY
    | {
        "embedding_multiplier": 0.5,
        "logits_scaling": 2.0,
        "residual_multiplier": 1.3,
        "attention_multiplier": 0.25,
    },
    variants={
        "biased": {"attention_bias": True, "mlp_bias": True, "attention_multiplier": 0.3, "tie_word_embeddings": True},
        "llama3": {"rope_parameters": TINY_ROPES["llama3"]},
    },
)
