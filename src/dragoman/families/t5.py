"""The decoder of T5 (https://arxiv.org/abs/1910.10683), and of T5 1.1 and FLAN-T5, whose feed-forward is gated."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import t5_like
from dragoman.families.base import Card, Family


@dataclass(kw_only=True, init=False, eq=False)
class T5Config(t5_like.T5LikeConfig):
    """Fields and defaults of a T5 `config.json`; the defaults are t5-small."""

    model_type: ClassVar[str] = "t5"

    # in release 5 of `transformers`; earlier ones call it `tie_word_embeddings`
    scale_decoder_outputs: bool | None = None

    def __post_init__(self) -> None:
        """Recognise T5 1.1 by either field."""
        super().__post_init__()
        if self.scale_decoder_outputs is None:
            self.scale_decoder_outputs = self.tie_word_embeddings

    @property
    def tied(self) -> bool:
        """Whether the head is the scaled token embedding, as in T5 1.0 only."""
        return self.tie_word_embeddings and self.scale_decoder_outputs is not False


FAMILY = Family(
    config=T5Config,
    text=t5_like.part("T5Decoder"),
    tokenizer="T5Tokenizer",
    card=Card(
        name="T5, its decoder",
        paper="https://arxiv.org/abs/1910.10683",
        checkpoints=("google-t5/t5-small", "google/flan-t5-base"),
        licence="Apache-2.0",
    ),
    tiny=t5_like.TINY,
)
