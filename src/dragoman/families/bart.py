"""The decoder of BART (https://arxiv.org/abs/1910.13461)."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.families import bart_like
from dragoman.families.base import Card, Family
from dragoman.spec import EmbedNorm, NormOrder, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class BartConfig(bart_like.TwoStackConfig):
    """Fields and defaults of a BART `config.json`; the defaults are bart-large."""

    model_type: ClassVar[str] = "bart"

    max_position_embeddings: int = 1024
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = 2
    keep_final_logits_bias: bool | None = None  # ours; `transformers` drops the head's bias

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; its first two positions are unused."""
        return self._text_spec(NormOrder.POST, TextPositionSpec(offset=2), EmbedNorm.SUM)

    def _text_spec(
        self, norm_order: NormOrder, positions: TextPositionSpec, embed_norm: EmbedNorm | None = None
    ) -> TextDecoderSpec:
        spec = self.decoder_spec(norm_order, self.max_position_embeddings, positions, embed_norm)
        return replace(spec, head=replace(spec.head, bias=bool(self.keep_final_logits_bias)))


FAMILY = Family(
    config=BartConfig,
    text=bart_like.seq2seq_part("BartForCausalLM", bart_like.EMBED_NORM, *bart_like.OTHER_HEADS),
    tokenizer="RobertaTokenizer",
    other_tokenizers=("BartTokenizer",),
    card=Card(
        name="BART, its decoder",
        paper="https://arxiv.org/abs/1910.13461",
        checkpoints=("facebook/bart-base", "facebook/bart-large"),
        licence="Apache-2.0",
    ),
    tiny=bart_like.TINY | {"max_position_embeddings": 64},
)
