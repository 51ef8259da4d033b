"""Frozen descriptions of the parts of a model, free of any framework: what to build, not how."""

from dragoman.spec.block import BlockSpec, StackSpec
from dragoman.spec.enums import Activation, EmbedNorm, FrontendNorm, Norm, NormOrder, Padding, Positions
from dragoman.spec.ids import SharedId, SpecialIds
from dragoman.spec.rotary import RotaryScaling, RotarySpec
from dragoman.spec.speech import (
    BucketBiasSpec,
    ConvAdapterSpec,
    ConvFrontendSpec,
    ConvPositionSpec,
    ConvStackPositionSpec,
    MelFrontendSpec,
    SpecAugmentSpec,
    SpeechEncoderSpec,
    TablePositionSpec,
)
from dragoman.spec.text import HeadSpec, TextDecoderSpec

__all__ = [
    "Activation",
    "BlockSpec",
    "BucketBiasSpec",
    "ConvAdapterSpec",
    "ConvFrontendSpec",
    "ConvPositionSpec",
    "ConvStackPositionSpec",
    "EmbedNorm",
    "FrontendNorm",
    "HeadSpec",
    "MelFrontendSpec",
    "Norm",
    "NormOrder",
    "Padding",
    "Positions",
    "RotaryScaling",
    "RotarySpec",
    "SharedId",
    "SpecAugmentSpec",
    "SpecialIds",
    "SpeechEncoderSpec",
    "StackSpec",
    "TablePositionSpec",
    "TextDecoderSpec",
]
