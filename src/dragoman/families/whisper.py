"""Whisper (https://arxiv.org/abs/2212.04356): its encoder as a speech encoder, its decoder as a text decoder.

The encoder was trained with transcripts; it is not self-supervised.
"""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import bart
from dragoman.families.base import Family, FieldAlias, Part, SpecAugmentConfig, head_rule
from dragoman.spec import (
    Activation,
    BlockSpec,
    HeadSpec,
    MelFrontendSpec,
    NormOrder,
    SpeechEncoderSpec,
    StackSpec,
    TablePositionSpec,
    TextDecoderSpec,
)


@dataclass(kw_only=True)
class WhisperConfig(SpecAugmentConfig):
    """Fields and defaults of a Whisper `config.json`; the defaults are the tiny model's."""

    model_type: ClassVar[str] = "whisper"

    vocab_size: int = 51865
    num_mel_bins: int = 80
    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    encoder_layerdrop: float = 0.0
    decoder_layers: int = 4
    decoder_attention_heads: int = 6
    decoder_ffn_dim: int = 1536
    decoder_layerdrop: float = 0.0
    activation_function: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    scale_embedding: bool = False  # upstream reads it and never applies it
    max_source_positions: int = 1500
    max_target_positions: int = 448
    apply_spec_augment: bool = False
    pad_token_id: int | None = 50256
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    decoder_start_token_id: int | list[int] | None = 50257
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | tuple[int, ...] | None = (220, 50256)
    is_encoder_decoder: bool = True

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("encoder_layers")
    num_attention_heads = FieldAlias("encoder_attention_heads")
    max_position_embeddings = FieldAlias("max_target_positions")

    def _block(self, num_heads: int, ffn_width: int, decoder: bool) -> BlockSpec:
        return BlockSpec(
            width=self.d_model,
            num_heads=num_heads,
            ffn_width=ffn_width,
            activation=Activation.parse(self.activation_function),
            norm_order=NormOrder.PRE,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            causal=decoder,
            cross_attention=decoder,
            key_bias=False,
        )

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder."""
        return SpeechEncoderSpec(
            frontend=MelFrontendSpec(num_mels=self.num_mel_bins),
            positions=TablePositionSpec(num_positions=self.max_source_positions),
            stack=StackSpec(
                block=self._block(self.encoder_attention_heads, self.encoder_ffn_dim, decoder=False),
                num_layers=self.encoder_layers,
                final_norm=True,
                layerdrop=self.encoder_layerdrop,
            ),
            input_norm=False,
            dropout=self.dropout,
            spec_augment=self._spec_augment() if self.apply_spec_augment else None,
            init_std=self.init_std,
        )

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; it always has cross-attention."""
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_target_positions,
            dropout=self.dropout,
            stack=StackSpec(
                block=self._block(self.decoder_attention_heads, self.decoder_ffn_dim, decoder=True),
                num_layers=self.decoder_layers,
                final_norm=True,
                layerdrop=self.decoder_layerdrop,
            ),
            head=HeadSpec(tied=self.tie_word_embeddings),
            pad_token_id=self.pad_token_id,
            init_std=self.init_std,
        )


# fmt: off
ENCODER: tuple[Rule, ...] = (
    # theirs                                    ours
    Rename("layers.{i}.self_attn.q_proj.*",     "stack.layers.{i}.self_attn.q_proj.*"),
    Rename("layers.{i}.self_attn.k_proj.*",     "stack.layers.{i}.self_attn.k_proj.*"),
    Rename("layers.{i}.self_attn.v_proj.*",     "stack.layers.{i}.self_attn.v_proj.*"),
    Rename("layers.{i}.self_attn.out_proj.*",   "stack.layers.{i}.self_attn.out_proj.*"),
    Rename("layers.{i}.self_attn_layer_norm.*", "stack.layers.{i}.self_attn_norm.*"),
    Rename("layers.{i}.fc1.*",                  "stack.layers.{i}.ffn.in_proj.*"),
    Rename("layers.{i}.fc2.*",                  "stack.layers.{i}.ffn.out_proj.*"),
    Rename("layers.{i}.final_layer_norm.*",     "stack.layers.{i}.ffn_norm.*"),
    Rename("layer_norm.*",                      "stack.final_norm.*"),
    Drop("decoder.*",                           why="the text decoder is not used"),
    Drop("model.decoder.*",                     why="the text decoder is not used"),
)


def _speech_rules(config: WhisperConfig) -> tuple[Rule, ...]:
    return (
        Rename("conv1.*",                       "frontend.conv1.*"),
        Rename("conv2.*",                       "frontend.conv2.*"),
        Rename("embed_positions.weight",        "positions.weight"),
        *ENCODER,
        Drop("proj_out.weight",                 why="a head that an encoder does not need"),
        Drop("projector.*",                     why="a head that an encoder does not need"),
        Drop("classifier.*",                    why="a head that an encoder does not need"),
        Drop("layer_weights",                   why="a head that an encoder does not need"),
    )


def _text_rules(config: WhisperConfig) -> tuple[Rule, ...]:
    return (
        *bart.BLOCKS,
        bart.FINAL_NORM,
        Drop("model.encoder.*",                     why="the speech encoder is not used"),
        head_rule(config.tie_word_embeddings, "proj_out.weight"),
    )
# fmt: on


FAMILY = Family(
    config=WhisperConfig,
    speech=Part(rules=_speech_rules, classes=("WhisperEncoder",), prefixes=("model.encoder.", "encoder.")),
    text=Part(rules=_text_rules, classes=("WhisperForCausalLM",), prefixes=("model.",)),
    whole="WhisperForConditionalGeneration",
    feature_extractor="WhisperFeatureExtractor",
    tokenizer="WhisperTokenizer",
)
