"""The decoder of TrOCR (https://arxiv.org/abs/2109.10282), which was trained to read the states of an image encoder."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Rule
from dragoman.families import bart
from dragoman.families.base import Family, FieldAlias, ModelConfig, Part, head_rule
from dragoman.spec import Activation, BlockSpec, EmbedNorm, HeadSpec, NormOrder, Positions, StackSpec, TextDecoderSpec


@dataclass(kw_only=True)
class TrOCRConfig(ModelConfig):
    """Fields and defaults of a TrOCR `config.json`; the defaults are trocr-base."""

    model_type: ClassVar[str] = "trocr"

    vocab_size: int = 50265
    d_model: int = 1024
    decoder_layers: int = 12
    decoder_attention_heads: int = 16
    decoder_ffn_dim: int = 4096
    activation_function: str = "gelu"
    max_position_embeddings: int = 512
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    decoder_layerdrop: float = 0.0
    scale_embedding: bool = False
    use_learned_position_embeddings: bool = True
    layernorm_embedding: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | list[int] | None = 2

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("decoder_layers")
    num_attention_heads = FieldAlias("decoder_attention_heads")

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; it always has cross-attention, from memory as wide as the configuration says."""
        learned = self.use_learned_position_embeddings
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
            memory_width=self.cross_attention_hidden_size,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            positions=Positions.LEARNED if learned else Positions.COMPUTED,
            position_offset=2 if learned else 1 + (self.pad_token_id or 0),
            padding_apart=not learned,
            embed_scale=self.d_model**0.5 if self.scale_embedding else 1.0,
            embed_norm=EmbedNorm.SUM if self.layernorm_embedding else None,
            dropout=self.dropout,
            stack=StackSpec(block=block, num_layers=self.decoder_layers, layerdrop=self.decoder_layerdrop),
            head=HeadSpec(tied=self.tie_word_embeddings),
            pad_token_id=self.pad_token_id,
            init_std=self.init_std,
        )


def _rules(config: TrOCRConfig) -> tuple[Rule, ...]:
    return (*bart.BLOCKS, bart.EMBED_NORM, head_rule(config.tie_word_embeddings, "output_projection.weight"))


FAMILY = Family(
    config=TrOCRConfig,
    text=Part(rules=_rules, classes=("TrOCRForCausalLM",), prefixes=("model.",)),
    tokenizer="RobertaTokenizer",
)
