"""Frozen descriptions of the parts of a model, without a framework: what to build, not how."""

from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, LocalAttentionSpec, StackSpec
from dragoman.spec.bridge import BridgeSpec
from dragoman.spec.conformer import ConformerSpec, Distance
from dragoman.spec.enums import Activation, EmbedNorm, FrontendNorm, Padding, Positions
from dragoman.spec.frontend import (
    ConvFrontendSpec,
    FeatureFrontendSpec,
    FrontendSpec,
    MelFrontendSpec,
    SubsampleFrontendSpec,
)
from dragoman.spec.ids import GenerationId, SharedId, SpecialIds, keep_own_id
from dragoman.spec.norms import Norm, NormOrder, NormSlots, NormSpec
from dragoman.spec.pieces import PieceFrontendSpec
from dragoman.spec.pooling import PoolSpec
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
from dragoman.spec.text import HeadSpec, TextDecoderSpec, TextEmbeddingSpec, TextPositionSpec

__all__ = [
    "Activation",
    "AttentionSpec",
    "BlockSpec",
    "BridgeSpec",
    "BucketBiasSpec",
    "ConformerSpec",
    "ConvAdapterSpec",
    "ConvFrontendSpec",
    "ConvPositionSpec",
    "ConvStackPositionSpec",
    "CrossAttentionSpec",
    "DisentangledSpec",
    "Distance",
    "EmbedNorm",
    "FeatureFrontendSpec",
    "FeedForwardSpec",
    "FrontendNorm",
    "FrontendSpec",
    "GenerationId",
    "HeadSpec",
    "LocalAttentionSpec",
    "MelFrontendSpec",
    "Norm",
    "NormOrder",
    "NormSlots",
    "NormSpec",
    "Padding",
    "PairScaling",
    "PieceFrontendSpec",
    "PoolSpec",
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
    "TextEmbeddingSpec",
    "TextPositionSpec",
    "YarnScaling",
    "keep_own_id",
]
