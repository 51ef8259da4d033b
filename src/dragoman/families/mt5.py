"""The decoder of mT5 (https://arxiv.org/abs/2010.11934): T5 1.1, trained on 101 languages."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import t5_like
from dragoman.families.base import Card, Family


@dataclass(kw_only=True, init=False, eq=False)
class MT5Config(t5_like.T5LikeConfig):
    """Fields and defaults of an mT5 `config.json`; the defaults are mt5-small.

    Release 5 of `transformers` writes that the head of mT5 is tied, but all checkpoints have an untied one.
    """

    model_type: ClassVar[str] = "mt5"

    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward_proj: str = "gated-gelu"


FAMILY = Family(
    config=MT5Config,
    text=t5_like.part("MT5Decoder"),
    tokenizer="T5Tokenizer",
    other_tokenizers=("MT5Tokenizer",),
    card=Card(
        name="mT5, its decoder",
        paper="https://arxiv.org/abs/2010.11934",
        checkpoints=("google/mt5-small", "google/mt5-base"),
        licence="Apache-2.0",
    ),
    tiny=t5_like.TINY,
)
