"""Parakeet's encoder, FastConformer (https://arxiv.org/abs/2305.05084): 12.5 frames a second from log-mel bins.

Checkpoints of recognisers by CTC and of transducers are read as this encoder; what follows it is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.errors import ConfigError
from dragoman.families import fastconformer_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.config import ModelConfig
from dragoman.spec import Activation, ConformerSpec, Distance, NormOrder, SpeechEncoderSpec, SubsampleFrontendSpec
from dragoman.spec.attention import AttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec


@dataclass(kw_only=True, init=False, eq=False)
class ParakeetEncoderConfig(ModelConfig):
    """Fields and defaults of a `parakeet_encoder`'s `config.json`; the defaults are Parakeet CTC 0.6B's."""

    model_type: ClassVar[str] = "parakeet_encoder"

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 8
    intermediate_size: int = 4096
    hidden_act: str = "silu"
    attention_bias: bool = True
    convolution_bias: bool = True
    conv_kernel_size: int = 9
    subsampling_factor: int = 8
    subsampling_conv_channels: int = 256
    num_mel_bins: int = 80
    subsampling_conv_kernel_size: int = 3
    subsampling_conv_stride: int = 2
    dropout: float = 0.1
    dropout_positions: float = 0.0
    layerdrop: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    max_position_embeddings: int = 5000  # `transformers` ignores it for longer clips
    scale_input: bool = True
    initializer_range: float = 0.02

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from a `config.json`, in that of a recogniser from its `encoder_config`."""
        return super().from_dict(data.get("encoder_config") or data, **overrides)

    def speech_spec(self) -> SpeechEncoderSpec:
        factor, kernel = self.subsampling_factor, self.subsampling_conv_kernel_size
        if self.subsampling_conv_stride != 2 or factor < 2 or factor & (factor - 1) or self.dropout_positions:
            raise ConfigError(
                "FastConformer needs `subsampling_conv_stride` 2, a power of 2 as `subsampling_factor` and "
                f"`dropout_positions` 0, but has {self.subsampling_conv_stride}, {factor} and {self.dropout_positions}."
            )
        bias = self.attention_bias
        attention = AttentionSpec(
            width=self.hidden_size, num_heads=self.num_attention_heads, dropout=self.attention_dropout, qkv_bias=bias
        )
        ffn = FeedForwardSpec(
            width=self.intermediate_size, activation=Activation.parse(self.hidden_act), bias=bias,
            dropout=self.activation_dropout,
        )  # fmt: skip
        kind = ConformerSpec(
            kernel=self.conv_kernel_size, causal=False, bias=self.convolution_bias, distance=Distance.SINUSOID
        )
        block = BlockSpec(self_attn=attention, ffn=ffn, norm_order=NormOrder.PRE, kind=kind)
        return SpeechEncoderSpec(
            frontend=SubsampleFrontendSpec(
                num_features=self.num_mel_bins, channels=self.subsampling_conv_channels, planar=True,
                kernels=(kernel,) * (factor.bit_length() - 1), scale=self.hidden_size**0.5 if self.scale_input else 1.0,
            ),
            positions=None, input_norm=False, dropout=self.dropout, init_std=self.initializer_range,
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, layerdrop=self.layerdrop),
        )  # fmt: skip


# fmt: off
def _rules(config: ParakeetEncoderConfig) -> tuple[Rule, ...]:
    return (
        *like.rules(config.subsampling_factor),
        Drop("ctc_head.*",                           why="the recogniser by CTC is not used"),
        Drop("decoder.*",                            why="the transducer's LSTM is not used"),
        Drop("joint.*",                              why="the transducer's joint network is not used"),
        Drop("encoder_projector.*",                  why="the transducer's joint network is not used"),
    )
# fmt: on


FAMILY = Family(
    config=ParakeetEncoderConfig,
    also=("parakeet_ctc", "parakeet_tdt", "parakeet_rnnt"),
    speech=Part(rules=_rules, classes=("ParakeetEncoder",), prefixes=("encoder.",), aliases=like.nemo_aliases()),
    feature_extractor="ParakeetFeatureExtractor",
    processor="ParakeetProcessor",
    card=Card(
        name="Parakeet's encoder (FastConformer)",
        paper="https://arxiv.org/abs/2305.05084",
        checkpoints=("nvidia/parakeet-ctc-0.6b", "nvidia/parakeet-ctc-1.1b", "nvidia/parakeet-tdt-0.6b-v3"),
        licence="CC BY 4.0",
        own="12.5 frames a second; CTC heads and transducers are left out",
    ),
    tiny={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "num_mel_bins": 16,
        "subsampling_conv_channels": 6,
        "conv_kernel_size": 7,
    },
    variants={
        "plain": {"attention_bias": False, "convolution_bias": False, "scale_input": False, "subsampling_factor": 4},
        "wide": {"subsampling_conv_kernel_size": 5, "hidden_act": "relu"},
    },
)
