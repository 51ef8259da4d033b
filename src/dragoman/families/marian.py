"""The decoder of Marian (https://arxiv.org/abs/1804.00344) in the OPUS-MT translation models.

Their heads have a trained bias, which `MarianForCausalLM` of `transformers` lacks: see `bart_like.seq2seq_part`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.families import bart_like
from dragoman.families.bart import BartConfig
from dragoman.families.base import Card, Family
from dragoman.spec import NormOrder, Positions, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class MarianConfig(BartConfig):
    """Fields and defaults of a Marian `config.json`."""

    model_type: ClassVar[str] = "marian"

    vocab_size: int = 58101
    decoder_vocab_size: int | None = None
    share_encoder_decoder_embeddings: bool = True
    pad_token_id: int | None = 58100
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 0
    decoder_start_token_id: int | list[int] | None = 58100
    forced_eos_token_id: int | list[int] | None = 0

    def __post_init__(self) -> None:
        """Keep the vocabulary of the decoder where the text encoder has another."""
        super().__post_init__()
        self.vocab_size = self.decoder_vocab_size = self.decoder_vocab_size or self.vocab_size

    def to_dict(self) -> dict[str, Any]:
        """Return every field; both vocabulary sizes are the decoder's."""
        return {**super().to_dict(), "decoder_vocab_size": self.vocab_size}

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder: BART's blocks and sinusoidal positions."""
        return self._text_spec(NormOrder.POST, TextPositionSpec(kind=Positions.STORED))


FAMILY = Family(
    config=MarianConfig,
    text=bart_like.seq2seq_part("MarianForCausalLM", computed=("embed.positions.weight",)),
    tokenizer="MarianTokenizer",
    card=Card(
        name="Marian (OPUS-MT), its decoder",
        paper="https://arxiv.org/abs/1804.00344",
        checkpoints=("Helsinki-NLP/opus-mt-en-de",),
        licence="Apache-2.0 or CC BY 4.0, by model",
        own="the trained bias of its logits is kept only with `decoder_keep_final_logits_bias=True`",
    ),
    tiny=bart_like.TINY | bart_like.TINY_IDS | {"max_position_embeddings": 64, "activation_function": "swish"},
)
