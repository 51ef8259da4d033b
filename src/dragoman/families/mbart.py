"""The decoder of mBART and mBART-50 (https://arxiv.org/abs/2008.00401)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bart_like
from dragoman.families.bart import BartConfig
from dragoman.families.base import Card, Family
from dragoman.spec import EmbedNorm, NormOrder, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class MBartConfig(BartConfig):
    """Fields and defaults of an mBART `config.json`."""

    model_type: ClassVar[str] = "mbart"

    decoder_start_token_id: int | list[int] | None = None

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder: BART's, with norms before each sublayer and at the end."""
        return self._text_spec(NormOrder.PRE, TextPositionSpec(offset=2), EmbedNorm.SUM)


FAMILY = Family(
    config=MBartConfig,
    text=bart_like.seq2seq_part("MBartForCausalLM", bart_like.EMBED_NORM, bart_like.FINAL_NORM, *bart_like.OTHER_HEADS),
    tokenizer="MBartTokenizer",
    other_tokenizers=("MBart50Tokenizer",),
    card=Card(
        name="mBART, mBART-50, its decoder",
        paper="https://arxiv.org/abs/2008.00401",
        checkpoints=("facebook/mbart-large-50-many-to-many-mmt", "facebook/mbart-large-cc25"),
        licence="see their cards",
        ends="the language's token, from the checkpoint",
    ),
    tiny=bart_like.TINY | {"max_position_embeddings": 64, "scale_embedding": True},
)
