"""Llama (https://arxiv.org/abs/2302.13971); SmolLM and many other models have this `model_type`."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families.base import Card, Family
from dragoman.families.llama_like import TINY, LlamaLikeConfig, part
from dragoman.families.rope import TINY_ROPES
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class LlamaConfig(LlamaLikeConfig):
    """Fields and defaults of a Llama `config.json`; the defaults are the first model of 7 billion parameters."""

    model_type: ClassVar[str] = "llama"

    head_dim: int | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        self.head_dim = self.head_width(self.head_dim)

    def text_spec(self) -> TextDecoderSpec:
        bias = self.attention_bias
        return self.decoder_spec(
            head_width=self.head_width(self.head_dim), qkv_bias=bias, out_bias=bias, ffn_bias=self.mlp_bias
        )


FAMILY = Family(
    config=LlamaConfig,
    text=part("LlamaForCausalLM"),
    tokenizer="LlamaTokenizer",
    card=Card(
        name="Llama, also SmolLM and TinyLlama",
        paper="https://arxiv.org/abs/2302.13971",
        checkpoints=("HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-3.2-1B"),
        licence="Apache-2.0 (SmolLM2); Llama community licence, gated (Llama)",
        own="rotary positions, Llama 3.1's scaling too",
    ),
    tiny=TINY | {"attention_bias": True, "mlp_bias": True},
    variants={
        name: {"rope_parameters": rope, "attention_bias": False, "mlp_bias": False} for name, rope in TINY_ROPES.items()
    },
)
