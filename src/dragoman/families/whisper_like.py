"""Shared by encoders of speech language models that are Whisper's, or follow it (Qwen2-Audio, Voxtral, Qwen3-ASR)."""

from dataclasses import dataclass
from typing import Any

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.families.whisper import ENCODER
from dragoman.spec import Activation, MelFrontendSpec, NormOrder, SpeechEncoderSpec, TablePositionSpec
from dragoman.spec.attention import AttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec

TINY: dict[str, Any] = {
    "num_mel_bins": 8,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "d_model": 32,
}


@dataclass(kw_only=True, init=False, eq=False)
class WhisperLikeConfig(ModelConfig):
    """The fields of Qwen's encoders, in Whisper's words; the defaults are those of large-v3."""

    num_mel_bins: int = 128
    encoder_layers: int = 32
    encoder_attention_heads: int = 20
    encoder_ffn_dim: int = 5120
    d_model: int = 1280
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_function: str = "gelu"
    activation_dropout: float = 0.0
    scale_embedding: bool = False
    initializer_range: float = 0.02

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("encoder_layers")
    num_attention_heads = FieldAlias("encoder_attention_heads")
    intermediate_size = FieldAlias("encoder_ffn_dim")


def stack(config: Any, *, key_bias: bool = False, final_norm: bool = True, layerdrop: float = 0.0) -> StackSpec:
    """Describe the blocks; Whisper's keys have no bias."""
    if config.scale_embedding:
        raise ConfigError(f"`scale_embedding` must be false, but is true: no {config.model_type} scales its frames.")
    attention = AttentionSpec(
        width=config.d_model,
        num_heads=config.encoder_attention_heads,
        key_bias=key_bias,
        dropout=config.attention_dropout,
    )
    activation, inner = Activation.parse(config.activation_function), config.activation_dropout
    ffn = FeedForwardSpec(width=config.encoder_ffn_dim, activation=activation, dropout=inner)
    block = BlockSpec(self_attn=attention, ffn=ffn, norm_order=NormOrder.PRE, dropout=config.dropout)
    return StackSpec(block=block, num_layers=config.encoder_layers, final_norm=final_norm, layerdrop=layerdrop)


def whisper_spec(config: Any, blocks: StackSpec, *, windows: bool, **more: Any) -> SpeechEncoderSpec:
    """Describe Whisper's encoder with a mask of the valid frames, for one window or for several, one after another."""
    frames = config.max_source_positions
    return SpeechEncoderSpec(
        frontend=MelFrontendSpec(num_mels=config.num_mel_bins, masked=True, window=2 * frames if windows else None),
        positions=TablePositionSpec(num_positions=frames),
        stack=blocks,
        input_norm=False,
        window=frames if windows else None,
        attends_padding=windows,
        dropout=config.dropout,
        init_std=config.initializer_range,
        **more,
    )


# fmt: off
FRONTEND: tuple[Rule, ...] = (
    # theirs                          ours
    Rename("conv1.*",                 "frontend.conv1.*"),
    Rename("conv2.*",                 "frontend.conv2.*"),
    Rename("embed_positions.weight",  "positions.weight"),
)
# fmt: on
LAYERS: tuple[Rule, ...] = tuple(rule for rule in ENCODER if rule.theirs.startswith("layers."))
