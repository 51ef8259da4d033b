"""The decoder of fairseq's speech translation models (https://arxiv.org/abs/2104.06678), dropped upstream.

It was published only together with a wav2vec 2.0 encoder: facebook/s2t-wav2vec2-large-en-de and its kin.
"""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.families import bart
from dragoman.families.base import Family, FieldAlias, ModelConfig, Part, head_rule
from dragoman.spec import Activation, BlockSpec, HeadSpec, NormOrder, Positions, StackSpec, TextDecoderSpec


@dataclass(kw_only=True)
class Speech2Text2Config(ModelConfig):
    """Fields and defaults of a Speech2Text2 `config.json`."""

    model_type: ClassVar[str] = "speech_to_text_2"

    vocab_size: int = 10000
    d_model: int = 256
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 4
    decoder_layerdrop: float = 0.0
    activation_function: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = True
    max_target_positions: int = 1024
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | list[int] | None = 2

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("decoder_layers")
    num_attention_heads = FieldAlias("decoder_attention_heads")

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; it always has cross-attention."""
        block = BlockSpec(
            width=self.d_model,
            num_heads=self.decoder_attention_heads,
            ffn_width=self.decoder_ffn_dim,
            activation=Activation.parse(self.activation_function),
            norm_order=NormOrder.POST,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            causal=True,
            cross_attention=True,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_target_positions,
            positions=Positions.COMPUTED,
            position_offset=1 + (self.pad_token_id or 0),
            padding_apart=True,
            embed_scale=self.d_model**0.5 if self.scale_embedding else 1.0,
            dropout=self.dropout,
            stack=StackSpec(block=block, num_layers=self.decoder_layers, layerdrop=self.decoder_layerdrop),
            head=HeadSpec(tied=self.tie_word_embeddings),
            pad_token_id=self.pad_token_id,
            init_std=self.init_std,
        )


def _rules(config: Speech2Text2Config) -> tuple[Rule, ...]:
    return (
        *bart.block_rules("model.decoder"),
        Drop("model.decoder.embed_positions.weights", why="computed, not learned"),
        head_rule(config.tie_word_embeddings),
    )


FAMILY = Family(
    config=Speech2Text2Config,
    text=Part(rules=_rules, classes=("Speech2Text2ForCausalLM",), prefixes=("model.",)),
    tokenizer="Speech2Text2Tokenizer",
)
