"""Shared by recognisers of a FastConformer and a decoder that was trained with it (Canary, Cohere Transcribe)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import fastconformer_like, parakeet_encoder
from dragoman.families.config import ModelConfig
from dragoman.families.moonshine import stack_rules
from dragoman.families.rules import head_rule
from dragoman.spec import Activation, EmbedNorm, NormOrder, SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec
from dragoman.spec.text import HeadSpec, TextEmbeddingSpec, TextPositionSpec

TINY_ENCODER: dict[str, Any] = {
    "model_type": "parakeet_encoder",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "num_mel_bins": 16,
    "subsampling_conv_channels": 6,
    "conv_kernel_size": 5,
    "scale_input": False,
}
TINY: dict[str, Any] = {
    "encoder_config": TINY_ENCODER,
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 8,
    "intermediate_size": 30,
    "max_position_embeddings": 64,
}


@dataclass(kw_only=True, init=False, eq=False)
class CanaryLikeConfig(ModelConfig):
    """The fields of the decoder, and the encoder's configuration."""

    positions: ClassVar[TextPositionSpec] = TextPositionSpec()

    encoder_config: dict[str, Any] | None = None
    vocab_size: int = 16384
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "relu"
    max_position_embeddings: int = 1024
    initializer_range: float = 0.02
    attention_bias: bool = True
    attention_dropout: float = 0.0
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 2
    bos_token_id: int | None = 4
    eos_token_id: int | list[int] | None = 3

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        self.encoder_config = {"model_type": "parakeet_encoder", **self.encoder_fields(self.encoder_config or {})}
        if self.encoder_config["model_type"] != "parakeet_encoder":
            raise ConfigError(
                f"The encoder of a {self.model_type!r} model is a parakeet_encoder, but `encoder_config` has the "
                f"`model_type` {self.encoder_config['model_type']!r}."
            )
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // max(self.num_attention_heads, 1)

    def encoder_fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the encoder that the file gives, with those that follow from the family."""
        return dict(given)

    def encoder(self) -> parakeet_encoder.ParakeetEncoderConfig:
        """Return the encoder's configuration."""
        return parakeet_encoder.ParakeetEncoderConfig.from_dict(self.encoder_config or {})

    def speech_spec(self) -> SpeechEncoderSpec:
        return self.encoder().speech_spec()

    def text_spec(self) -> TextDecoderSpec:
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size, num_heads=self.num_attention_heads, num_kv_heads=self.num_key_value_heads,
                head_width=self.head_dim, qkv_bias=self.attention_bias, out_bias=self.attention_bias,
                dropout=self.attention_dropout,
            ),
            ffn=FeedForwardSpec(width=self.intermediate_size, activation=Activation.parse(self.hidden_act)),
            norm_order=NormOrder.PRE,
            cross_attn=CrossAttentionSpec(),
        )  # fmt: skip
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_position_embeddings,
            embed=TextEmbeddingSpec(positions=self.positions, norm=EmbedNorm.SUM, pad_token_id=self.pad_token_id),
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, final_norm=True),
            head=HeadSpec(tied=self.tie_word_embeddings, bias=True),
            init_std=self.initializer_range,
        )


# fmt: off
UNUSED: tuple[Rule, ...] = (Drop("preprocessor.featurizer.*", why="the features are computed in NumPy"),)


def speech_rules(config: CanaryLikeConfig) -> tuple[Rule, ...]:
    """Return the rules of the encoder."""
    return (
        *fastconformer_like.rules(config.encoder().subsampling_factor),
        Drop("model.decoder.*",                     why="the text decoder is not used"),
        Drop("decoder.*",                           why="the text decoder is not used"),
        Drop("proj_out.*",                          why="a head that an encoder does not need"),
        *UNUSED,
    )


def text_rules(config: CanaryLikeConfig) -> tuple[Rule, ...]:
    """Return the rules of the decoder."""
    attentions = {"self_attn": "self_attn", "encoder_attn": "cross_attn"}
    norms = {"input": "self_attn", "post_attention": "cross_attn", "final": "ffn"}
    return (
        Rename("model.decoder.embed_tokens.weight", "embed.tokens.weight"),
        Rename("model.decoder.embedding_layernorm.*", "embed.norm.*"),
        *stack_rules("model.decoder.", attentions, norms),
        Rename("model.decoder.layers.{i}.mlp.fc1.*", "stack.layers.{i}.ffn.in_proj.*"),
        Rename("model.decoder.norm.*",              "stack.final_norm.*"),
        head_rule(config.tie_word_embeddings,       "proj_out.weight"),
        Rename("proj_out.bias",                     "head.bias"),
        Drop("model.encoder.*",                     why="the speech encoder is not used"),
        *UNUSED,
    )
# fmt: on
