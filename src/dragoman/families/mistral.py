"""Mistral (https://arxiv.org/abs/2310.06825): Llama with a window."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.families.base import Card, Family
from dragoman.families.llama_like import TINY, LlamaLikeConfig, part, windowed_everywhere
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class MistralConfig(LlamaLikeConfig):
    """Fields and defaults of a Mistral `config.json`; the defaults are the model of 7 billion parameters."""

    model_type: ClassVar[str] = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    head_dim: int | None = None
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        self.head_dim = self.head_width(self.head_dim)

    def text_spec(self) -> TextDecoderSpec:
        spec = self.decoder_spec(
            head_width=self.head_width(self.head_dim), qkv_bias=False, out_bias=False, ffn_bias=False
        )
        return replace(spec, stack=windowed_everywhere(spec.stack, self.sliding_window))


FAMILY = Family(
    config=MistralConfig,
    text=part("MistralForCausalLM"),
    card=Card(
        name="Mistral",
        paper="https://arxiv.org/abs/2310.06825",
        checkpoints=("mistralai/Mistral-7B-v0.1",),
        licence="Apache-2.0",
        own="a window in all layers",
    ),
    tiny=TINY | {"head_dim": 8, "sliding_window": 5},
    variants={"no-window": {"sliding_window": None, "tie_word_embeddings": True}},
)
