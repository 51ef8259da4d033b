"""The decoder of fairseq's speech translation models (https://arxiv.org/abs/2104.06678), which `transformers` dropped.

It was published only with a wav2vec 2.0 encoder, as in facebook/s2t-wav2vec2-large-en-de.
"""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.families import bart_like
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.rules import head_rule
from dragoman.spec import NormOrder, Positions, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class Speech2Text2Config(bart_like.BartLikeConfig):
    """Fields and defaults of a Speech2Text2 `config.json`."""

    model_type: ClassVar[str] = "speech_to_text_2"

    vocab_size: int = 10000
    d_model: int = 256
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 4
    activation_function: str = "relu"
    scale_embedding: bool = True
    max_target_positions: int = 1024

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; fairseq numbers positions from the padding's on."""
        first = 1 + (self.pad_token_id or 0)
        positions = TextPositionSpec(kind=Positions.COMPUTED, offset=first, padding_has_own_position=True)
        return self.decoder_spec(NormOrder.POST, self.max_target_positions, positions)


def _rules(config: Speech2Text2Config) -> tuple[Rule, ...]:
    return (
        *bart_like.block_rules("model.decoder"),
        Drop("model.decoder.embed_positions.weights", why="computed, not learned"),
        head_rule(config.tie_word_embeddings),
    )


FAMILY = Family(
    config=Speech2Text2Config,
    text=Part(rules=_rules, classes=("Speech2Text2ForCausalLM",), shifts_labels=False, apart=always),
    tokenizer="Speech2Text2Tokenizer",
    processor="Speech2Text2Processor",
    card=Card(
        name="Speech2Text2, its decoder",
        paper="https://arxiv.org/abs/2104.06678",
        checkpoints=("facebook/s2t-wav2vec2-large-en-de",),
        licence="MIT",
    ),
    tiny=bart_like.TINY_DECODER | {"max_target_positions": 64},
)
