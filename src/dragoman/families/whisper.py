"""Whisper (https://arxiv.org/abs/2212.04356): its encoder as a speech encoder, its decoder as a text decoder.

The encoder was trained with transcripts; it is not self-supervised.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import bart_like
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.config import SpecAugmentConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import head_rule
from dragoman.spec import MelFrontendSpec, NormOrder, SpeechEncoderSpec, TablePositionSpec
from dragoman.spec.block import BlockSpec
from dragoman.spec.text import TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class WhisperConfig(bart_like.TwoStackConfig, SpecAugmentConfig):
    """Fields and defaults of a Whisper `config.json`; the defaults are the tiny model's."""

    model_type: ClassVar[str] = "whisper"

    vocab_size: int = 51865
    num_mel_bins: int = 80
    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    decoder_layers: int = 4
    decoder_attention_heads: int = 6
    decoder_ffn_dim: int = 1536
    dropout: float = 0.0
    max_source_positions: int = 1500
    max_target_positions: int = 448
    apply_spec_augment: bool = False
    pad_token_id: int | None = 50256
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    decoder_start_token_id: int | list[int] | None = 50257
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | tuple[int, ...] | None = (220, 50256)

    num_hidden_layers = FieldAlias("encoder_layers")
    num_attention_heads = FieldAlias("encoder_attention_heads")
    max_position_embeddings = FieldAlias("max_target_positions")

    @property
    def embed_scale(self) -> float:
        """Factor of the embeddings: `transformers` ignores `scale_embedding`."""
        return 1.0

    def plain_block(self, norm_order: NormOrder, num_heads: int, ffn_width: int) -> BlockSpec:
        """Describe a block without cross-attention; its keys have no bias."""
        plain = super().plain_block(norm_order, num_heads, ffn_width)
        return replace(plain, self_attn=replace(plain.self_attn, key_bias=False))

    def speech_spec(self) -> SpeechEncoderSpec:
        return SpeechEncoderSpec(
            frontend=MelFrontendSpec(num_mels=self.num_mel_bins),
            positions=TablePositionSpec(num_positions=self.max_source_positions),
            stack=self.encoder_stack(),
            input_norm=False,
            dropout=self.dropout,
            spec_augment=self._spec_augment() if self.apply_spec_augment else None,
            init_std=self.init_std,
        )

    def text_spec(self) -> TextDecoderSpec:
        return self.decoder_spec(NormOrder.PRE, self.max_target_positions, TextPositionSpec())


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
        *bart_like.BLOCKS,
        bart_like.FINAL_NORM,
        Drop("model.encoder.*",                     why="the speech encoder is not used"),
        head_rule(config.tie_word_embeddings, "proj_out.weight"),
    )
# fmt: on


FAMILY = Family(
    config=WhisperConfig,
    speech=Part(
        rules=_speech_rules, classes=("WhisperEncoder",), prefixes=("model.encoder.", "encoder."), apart=always
    ),
    text=Part(
        rules=_text_rules, classes=("WhisperForCausalLM",), prefixes=("model.",), shifts_labels=False, apart=always
    ),
    whole="WhisperForConditionalGeneration",
    feature_extractor="WhisperFeatureExtractor",
    tokenizer="WhisperTokenizer",
    processor="WhisperProcessor",
    card=Card(
        name="Whisper",
        paper="https://arxiv.org/abs/2212.04356",
        checkpoints=("openai/whisper-tiny.en", "openai/whisper-large-v3"),
        licence="Apache-2.0",
    ),
    tiny=bart_like.TINY
    | bart_like.TINY_IDS
    | {
        "num_mel_bins": 8,
        "max_source_positions": 30,
        "max_target_positions": 64,
        "begin_suppress_tokens": None,
    },
)
