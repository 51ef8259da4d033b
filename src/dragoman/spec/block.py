"""The one Transformer block that every family is made of, and a stack of them."""

from dataclasses import dataclass

from dragoman.errors import ConfigError
from dragoman.spec.checks import MOST_LAYERS, check_cap, check_numbers, check_sizes
from dragoman.spec.conformer import ConformerSpec
from dragoman.spec.enums import Activation, Norm, NormOrder
from dragoman.spec.positions import DisentangledSpec
from dragoman.spec.rotary import RotarySpec

__all__ = ["BlockSpec", "StackSpec"]


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """Self-attention, optional cross-attention and a feed-forward network, each with a residual connection.

    Dropout probabilities act in training only. `key_bias=False` is Whisper's; `bottleneck` is the width of the small
    residual network that MMS adds behind each block for one language; `gated_bias` lets self-attention weigh a position
    bias that the stack shares (WavLM). `memory_width` is the width of what cross-attention looks at, where it is not
    the block's own (TrOCR). `gated_ffn` multiplies the activation by a second projection (SwiGLU and its
    kin); `num_kv_heads` lets several heads of queries share one of keys and values; `query_norm` normalises each head
    of queries and keys (Qwen3); `cross_gate` means that the cross-attention is not the family's own but inserted, and
    stands behind a gate that begins shut. With `conformer` the block is a Conformer's, with `disentangled` it
    is DeBERTa's. Scores of attention are divided by the square root of the width of a head, or of `score_width` (1 for
    T5, which leaves them as they are); with a `score_cap` those of self-attention are bent so that none is beyond it:
    `cap * tanh(score / cap)` (Gemma 2, https://arxiv.org/abs/2408.00118, section 2).
    """

    width: int
    num_heads: int
    ffn_width: int
    activation: Activation
    norm_order: NormOrder
    norm_eps: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    causal: bool = False
    cross_attention: bool = False
    key_bias: bool = True
    bottleneck: int | None = None
    memory_width: int | None = None
    gated_bias: bool = False
    norm: Norm = Norm.LAYER
    gated_ffn: bool = False
    qkv_bias: bool = True
    out_bias: bool = True
    ffn_bias: bool = True
    num_kv_heads: int | None = None
    head_width: int | None = None
    rotary: RotarySpec | None = None
    query_norm: bool = False
    cross_gate: bool = False
    conformer: ConformerSpec | None = None
    disentangled: DisentangledSpec | None = None
    score_width: int | None = None
    score_cap: float | None = None

    def __post_init__(self) -> None:
        """Check that the sizes fit each other."""
        sizes = {"width": self.width, "num_heads": self.num_heads, "ffn_width": self.ffn_width}
        optional = "bottleneck", "memory_width", "num_kv_heads", "head_width", "score_width"
        sizes |= {name: getattr(self, name) for name in optional if getattr(self, name) is not None}
        check_sizes("A Transformer block", sizes)
        dropouts = "dropout", "attention_dropout", "activation_dropout"
        check_numbers("A Transformer block", {name: getattr(self, name) for name in (*dropouts, "norm_eps")})
        check_cap("The cap of the scores of attention", self.score_cap)
        if self.head_width is None and self.width % self.num_heads:
            raise ConfigError(
                f"The width of a Transformer block must be a multiple of its number of attention heads, "
                f"but {self.width} is not a multiple of {self.num_heads}."
            )

        if self.num_heads % self.key_heads:
            raise ConfigError(
                f"Each head of keys serves equally many heads of queries, but {self.num_heads} (attention heads) is "
                f"not a multiple of {self.key_heads} (key-value heads)."
            )
        check_sizes("A Transformer block", {"width of all heads": self.num_heads * self.head_dim})
        if self.rotary is not None and self.rotary.width > self.head_dim:
            raise ConfigError(
                f"Rotary positions turn {self.rotary.width} numbers of each head, but a head has {self.head_dim}."
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_width or self.width // self.num_heads

    @property
    def score_scale(self) -> float:
        """What scores of attention are multiplied by."""
        return float((self.score_width or self.head_dim) ** -0.5)

    @property
    def key_heads(self) -> int:
        """How many heads of keys and values there are."""
        return self.num_kv_heads or self.num_heads


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """`num_layers` equal blocks, and a final normalisation where the blocks normalise before they act.

    The layers numbered in `windowed` look back at the last `window` tokens only, themselves included; where
    `local_rotary` is given, it replaces the block's rotary positions there (Gemma 3). Those numbered in `nope_layers`
    have no rotary positions: causal attention alone gives them the order (NoPE,
    https://arxiv.org/abs/2305.19466; SmolLM3).
    """

    block: BlockSpec
    num_layers: int
    final_norm: bool = False
    layerdrop: float = 0.0
    window: int | None = None
    windowed: frozenset[int] = frozenset()
    local_rotary: RotarySpec | None = None
    nope_layers: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Check the number of layers."""
        check_sizes("The stack", {"num_layers": self.num_layers}, at_least=0, at_most=MOST_LAYERS)
        check_numbers("The stack", {"layerdrop": self.layerdrop})
        if self.window is not None:
            check_sizes("The stack", {"window": self.window})
