"""Gemma (https://arxiv.org/abs/2403.08295): Llama with norm weights stored minus one and scaled embeddings."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families.base import Card, Family
from dragoman.families.gemma_like import GemmaLikeConfig
from dragoman.families.llama_like import TINY, part


@dataclass(kw_only=True, init=False, eq=False)
class GemmaConfig(GemmaLikeConfig):
    """Fields and defaults of a Gemma `config.json`; the defaults are the model of 7 billion parameters."""

    model_type: ClassVar[str] = "gemma"

    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16

    def __post_init__(self) -> None:
        """Correct the activation: early files name "gelu" where the model uses its tanh approximation."""
        super().__post_init__()
        if self.hidden_act == "gelu":
            self.hidden_act = "gelu_pytorch_tanh"


FAMILY = Family(
    config=GemmaConfig,
    text=part("GemmaForCausalLM"),
    other_tokenizers=("GemmaTokenizer",),
    card=Card(
        name="Gemma",
        paper="https://arxiv.org/abs/2403.08295",
        checkpoints=("google/gemma-2b",),
        licence="Gemma terms of use; gated",
        own="norm weights stored minus one, scaled embeddings",
    ),
    tiny=TINY | {"head_dim": 8, "num_key_value_heads": 1},
)
