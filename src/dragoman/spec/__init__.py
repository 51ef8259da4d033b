"""Frozen descriptions of the parts of a model, free of any framework: what to build, not how."""

from dragoman.spec.block import BlockSpec, StackSpec
from dragoman.spec.conformer import ConformerSpec, Distance
from dragoman.spec.enums import Activation, EmbedNorm, FrontendNorm, Norm, NormOrder, Padding, Positions
from dragoman.spec.frontend import (
    ConvFrontendSpec,
    FeatureFrontendSpec,
    FrontendSpec,
    MelFrontendSpec,
    SubsampleFrontendSpec,
)
from dragoman.spec.ids import SharedId, SpecialIds
from dragoman.spec.positions import (
    BucketBiasSpec,
    ConvPositionSpec,
    ConvStackPositionSpec,
    DisentangledSpec,
    PositionSpec,
    SinusoidPositionSpec,
    TablePositionSpec,
)
from dragoman.spec.rotary import PairScaling, RotaryScaling, RotarySpec, YarnScaling
from dragoman.spec.speech import ConvAdapterSpec, SpecAugmentSpec, SpeechEncoderSpec
from dragoman.spec.text import HeadSpec, TextDecoderSpec

__all__ = [
    "Activation",
    "BlockSpec",
    "BucketBiasSpec",
    "ConformerSpec",
    "ConvAdapterSpec",
    "ConvFrontendSpec",
    "ConvPositionSpec",
    "ConvStackPositionSpec",
    "DisentangledSpec",
    "Distance",
    "EmbedNorm",
    "FeatureFrontendSpec",
    "FrontendNorm",
    "FrontendSpec",
    "HeadSpec",
    "MelFrontendSpec",
    "Norm",
    "NormOrder",
    "Padding",
    "PairScaling",
    "PositionSpec",
    "Positions",
    "RotaryScaling",
    "RotarySpec",
    "SharedId",
    "SinusoidPositionSpec",
    "SpecAugmentSpec",
    "SpecialIds",
    "SpeechEncoderSpec",
    "StackSpec",
    "SubsampleFrontendSpec",
    "TablePositionSpec",
    "TextDecoderSpec",
    "YarnScaling",
]
