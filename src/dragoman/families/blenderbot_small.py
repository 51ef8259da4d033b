"""The decoder of Blenderbot small (https://arxiv.org/abs/2004.13637), whose network differs from Blenderbot's."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bart_like
from dragoman.families.bart import BartConfig
from dragoman.families.base import Card, Family
from dragoman.spec import EmbedNorm, NormOrder, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class BlenderbotSmallConfig(BartConfig):
    """Fields and defaults of a `config.json` of blenderbot_small-90M."""

    model_type: ClassVar[str] = "blenderbot-small"

    max_position_embeddings: int = 512
    d_model: int = 512
    encoder_layers: int = 8
    encoder_ffn_dim: int = 2048
    decoder_layers: int = 8
    decoder_ffn_dim: int = 2048
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    decoder_start_token_id: int | list[int] | None = 1

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder: BART's blocks; token embeddings are normalised before positions are added."""
        return self._text_spec(NormOrder.POST, TextPositionSpec(), EmbedNorm.TOKENS)


FAMILY = Family(
    config=BlenderbotSmallConfig,
    text=bart_like.seq2seq_part("BlenderbotSmallForCausalLM", bart_like.EMBED_NORM),
    tokenizer="BlenderbotSmallTokenizer",
    card=Card(
        name="Blenderbot small, its decoder",
        paper="https://arxiv.org/abs/2004.13637",
        checkpoints=("facebook/blenderbot_small-90M",),
        licence="Apache-2.0",
    ),
    tiny=bart_like.TINY | bart_like.TINY_IDS | {"max_position_embeddings": 64},
)
