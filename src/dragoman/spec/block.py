"""The Transformer block that all families share, and a stack of such blocks."""

from dataclasses import dataclass

from dragoman.spec.attention import AttentionSpec, CrossAttentionSpec
from dragoman.spec.checks import MOST_LAYERS, check_numbers, check_sizes
from dragoman.spec.conformer import ConformerSpec
from dragoman.spec.enums import Activation
from dragoman.spec.norms import NormOrder, NormSpec
from dragoman.spec.positions import DisentangledSpec
from dragoman.spec.rotary import RotarySpec


@dataclass(frozen=True, kw_only=True)
class FeedForwardSpec:
    """Two linear layers with a non-linearity between them."""

    width: int
    """Width between the two layers."""
    activation: Activation
    """The non-linearity."""
    gated: bool = False
    """Whether the activation multiplies a second projection (SwiGLU and its variants, https://arxiv.org/abs/2002.05202)."""
    bias: bool = True
    """Whether the layers have biases."""
    dropout: float = 0.0
    """Probability that a value between the layers is dropped in training."""

    def __post_init__(self) -> None:
        check_sizes("A Transformer block", {"ffn_width": self.width})
        check_numbers("A Transformer block", {"activation_dropout": self.dropout})


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Self-attention, optional cross-attention and a feed-forward network, each with a residual connection."""

    self_attn: AttentionSpec
    """Self-attention; its width is the block's."""
    ffn: FeedForwardSpec
    """The feed-forward network."""
    norm_order: NormOrder
    """Where the block normalises."""
    norm: NormSpec = NormSpec()
    """The norms of the block, all of one kind."""
    cross_attn: CrossAttentionSpec | None = None
    """Attention to the memory; `None` for none."""
    dropout: float = 0.0
    """Probability that a value which a residual connection adds is dropped in training."""
    residual_scale: float = 1.0
    """Factor of what self-attention and the feed-forward network add to the states (Granite)."""
    bottleneck: int | None = None
    """Width of the small residual network for one language after the block (MMS); `None` for none."""
    kind: ConformerSpec | DisentangledSpec | None = None
    """Replaces the plain block by a Conformer's, or its attention by DeBERTa's."""

    def __post_init__(self) -> None:
        if self.bottleneck is not None:
            check_sizes("A Transformer block", {"bottleneck": self.bottleneck})
        check_numbers("A Transformer block", {"dropout": self.dropout})

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.self_attn.width


@dataclass(frozen=True, kw_only=True)
class LocalAttentionSpec:
    """Layers whose self-attention reaches only the last tokens."""

    window: int
    """Tokens that such a layer attends to, the newest included."""
    layers: frozenset[int]
    """Indices of the layers."""
    rotary: RotarySpec | None = None
    """Their rotary positions where they are not the block's (Gemma 3)."""

    def __post_init__(self) -> None:
        check_sizes("The stack", {"window": self.window})


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """Equal blocks, one after another."""

    block: BlockSpec
    """What each layer is."""
    num_layers: int
    """How many layers there are."""
    final_norm: bool = False
    """Whether the states are normalised after the last layer (stacks of pre-norm blocks)."""
    layerdrop: float = 0.0
    """Probability that a layer is skipped in training (LayerDrop, https://arxiv.org/abs/1909.11556)."""
    local: LocalAttentionSpec | None = None
    """Layers with a window."""
    nope_layers: frozenset[int] = frozenset()
    """Layers without rotary positions: their causal mask alone tells the order (NoPE, https://arxiv.org/abs/2305.19466)."""

    def __post_init__(self) -> None:
        check_sizes("The stack", {"num_layers": self.num_layers}, at_least=0, at_most=MOST_LAYERS)
        check_numbers("The stack", {"layerdrop": self.layerdrop})
