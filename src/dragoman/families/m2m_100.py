"""The decoder of M2M-100 (https://arxiv.org/abs/2010.11125) and of NLLB-200 (https://arxiv.org/abs/2207.04672)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.families import bart_like
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.rules import head_rule
from dragoman.spec import NormOrder, Positions
from dragoman.spec.text import TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class M2M100Config(bart_like.TwoStackConfig):
    """Fields and defaults of an M2M-100 `config.json`; the defaults are the model of 418 million parameters."""

    model_type: ClassVar[str] = "m2m_100"

    vocab_size: int = 128112
    max_position_embeddings: int = 1024
    encoder_layerdrop: float = 0.05
    decoder_layerdrop: float = 0.05
    activation_function: str = "relu"
    attention_dropout: float = 0.1
    scale_embedding: bool = True

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; fairseq numbers positions from the padding's on."""
        first = 1 + (self.pad_token_id or 0)
        positions = TextPositionSpec(kind=Positions.COMPUTED, offset=first, padding_has_own_position=True)
        return self.decoder_spec(NormOrder.PRE, self.max_position_embeddings, positions)


# fmt: off
def _rules(config: M2M100Config) -> tuple[Rule, ...]:
    return (
        *bart_like.block_rules("model.decoder"),
        bart_like.FINAL_NORM,
        Drop("model.decoder.embed_positions.weights",  why="computed; only files of old releases hold it"),
        Drop("model.encoder.*",                        why="the text encoder is not used"),
        head_rule(config.tie_word_embeddings),
    )
# fmt: on


FAMILY = Family(
    config=M2M100Config,
    text=Part(rules=_rules, classes=("M2M100Decoder",), prefixes=("model.",), aliases=bart_like.SHARED, apart=always),
    tokenizer="M2M100Tokenizer",
    other_tokenizers=("NllbTokenizer",),
    card=Card(
        name="NLLB-200 and M2M-100, their decoder",
        paper="https://arxiv.org/abs/2207.04672",
        checkpoints=("facebook/nllb-200-distilled-600M", "facebook/m2m100_418M"),
        licence="CC BY-NC 4.0 (NLLB); MIT (M2M-100)",
        ends="the language's token, from the checkpoint",
        own="no mixture of experts (NLLB-MoE)",
    ),
    tiny=bart_like.TINY | {"max_position_embeddings": 64},
)
