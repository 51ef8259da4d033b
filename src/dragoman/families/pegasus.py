"""The decoder of PEGASUS (https://arxiv.org/abs/1912.08777)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bart_like
from dragoman.families.bart import BartConfig
from dragoman.families.base import Card, Family
from dragoman.spec import NormOrder, Positions, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class PegasusConfig(BartConfig):
    """Fields and defaults of a PEGASUS `config.json`; the defaults are pegasus-large."""

    model_type: ClassVar[str] = "pegasus"

    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | list[int] | None = 0
    forced_eos_token_id: int | list[int] | None = 1

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder: mBART's blocks and sinusoidal positions."""
        return self._text_spec(NormOrder.PRE, TextPositionSpec(kind=Positions.STORED))


FAMILY = Family(
    config=PegasusConfig,
    text=bart_like.seq2seq_part("PegasusForCausalLM", bart_like.FINAL_NORM, computed=("embed.positions.weight",)),
    tokenizer="PegasusTokenizer",
    card=Card(
        name="PEGASUS, its decoder",
        paper="https://arxiv.org/abs/1912.08777",
        checkpoints=("google/pegasus-large", "google/pegasus-xsum"),
        licence="see their cards",
    ),
    tiny=bart_like.TINY | bart_like.TINY_IDS | {"max_position_embeddings": 64, "scale_embedding": True},
)
