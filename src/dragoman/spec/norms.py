"""Normalisation inside a Transformer block: its kind, and where a block applies it."""

from dataclasses import dataclass
from enum import Enum

from dragoman.spec.checks import check_numbers


class Norm(Enum):
    """A normalisation of the last axis."""

    LAYER = "layer"  # mean 0, variance 1, then a weight and a bias
    LAYER_WITHOUT_BIAS = "layer_without_bias"  # mean 0, variance 1, then a weight: Moonshine
    RMS = "rms"  # mean square 1, then a weight: T5 and Llama (https://arxiv.org/abs/1910.07467)
    RMS_FROM_ONE = "rms_from_one"  # the same with the weight stored minus 1: Gemma


@dataclass(frozen=True, kw_only=True)
class NormSpec:
    """A normalisation layer."""

    kind: Norm = Norm.LAYER
    """How it normalises."""
    eps: float = 1e-5
    """Added to the variance (or mean square) before its root is taken."""

    def __post_init__(self) -> None:
        check_numbers("A normalisation", {"norm_eps": self.eps})


@dataclass(frozen=True, kw_only=True)
class NormSlots:
    """Which places of a block hold a norm; attention and the feed-forward network are its sublayers."""

    before: bool = False
    """Each sublayer reads normalised states."""
    branch: bool = False
    """The outputs of self-attention and the feed-forward network are normalised before they are added to the states."""
    inside: bool = False
    """The outputs of all sublayers are normalised before they are added, and nothing else is."""
    after: bool = False
    """The sum of states and a sublayer's output is normalised."""
    parallel: bool = False
    """The feed-forward network reads the block's input, as self-attention does."""
    shared: bool = False
    """The feed-forward network reads what self-attention read, so that there is one norm for both."""


class NormOrder(Enum):
    """Where a block of attention `f` and a feed-forward network `g` normalises its states `x`."""

    PRE = "pre"  # x + f(norm(x)), as GPT-2, Whisper and the "stable" wav2vec 2.0
    POST = "post"  # norm(x + f(x)), as BERT, BART and wav2vec 2.0 base
    PARALLEL = "parallel"  # x + f(norm(x)) + g(other_norm(x)), as GPT-NeoX
    SHARED = "shared"  # n = norm(x); x + f(n) + g(n), as Phi
    BOTH = "both"  # x + other_norm(f(norm(x))), as Gemma 2
    INSIDE = "inside"  # x + norm(f(x)), as OLMo 2

    @property
    def slots(self) -> NormSlots:
        """The places that hold a norm."""
        return _SLOTS[self]


_SLOTS = {
    NormOrder.PRE: NormSlots(before=True),
    NormOrder.POST: NormSlots(after=True),
    NormOrder.PARALLEL: NormSlots(before=True, parallel=True),
    NormOrder.SHARED: NormSlots(before=True, parallel=True, shared=True),
    NormOrder.BOTH: NormSlots(before=True, branch=True),
    NormOrder.INSIDE: NormSlots(inside=True),
}
