"""The decoder of Blenderbot (https://arxiv.org/abs/2004.13637)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bart_like
from dragoman.families.bart import BartConfig
from dragoman.families.base import Card, Family
from dragoman.spec import NormOrder, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class BlenderbotConfig(BartConfig):
    """Fields and defaults of a Blenderbot `config.json`; the defaults are the model with 3 billion weights."""

    model_type: ClassVar[str] = "blenderbot"

    vocab_size: int = 8008
    max_position_embeddings: int = 128
    d_model: int = 2560
    encoder_layers: int = 2
    encoder_ffn_dim: int = 10240
    encoder_attention_heads: int = 32
    decoder_layers: int = 24
    decoder_ffn_dim: int = 10240
    decoder_attention_heads: int = 32
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    decoder_start_token_id: int | list[int] | None = 1

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder: mBART's blocks, with no unused positions."""
        return self._text_spec(NormOrder.PRE, TextPositionSpec())


FAMILY = Family(
    config=BlenderbotConfig,
    text=bart_like.seq2seq_part("BlenderbotForCausalLM", bart_like.FINAL_NORM),
    tokenizer="BlenderbotTokenizer",
    card=Card(
        name="Blenderbot, its decoder",
        paper="https://arxiv.org/abs/2004.13637",
        checkpoints=("facebook/blenderbot-400M-distill", "facebook/blenderbot-3B"),
        licence="Apache-2.0",
    ),
    tiny=bart_like.TINY | bart_like.TINY_IDS | {"max_position_embeddings": 64},
)
