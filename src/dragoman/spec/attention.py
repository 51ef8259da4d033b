"""Multi-head attention: of a sequence to itself, and of a decoder to the memory."""

from dataclasses import dataclass

from dragoman.errors import ConfigError
from dragoman.spec.checks import check_cap, check_numbers, check_sizes
from dragoman.spec.norms import NormSpec
from dragoman.spec.rotary import RotarySpec


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Scaled dot-product self-attention (https://arxiv.org/abs/1706.03762, section 3.2)."""

    width: int
    """Width of the states, before and after attention."""
    num_heads: int
    """Heads of queries."""
    num_kv_heads: int | None = None
    """Heads of keys and values, each shared by equally many heads of queries; `None` for one a query head."""
    head_width: int | None = None
    """Width of a head where it is not `width / num_heads`."""
    qkv_bias: bool = True
    """Whether the projections to queries, keys and values have biases."""
    key_bias: bool = True
    """Whether the projection to keys has one too (Whisper's has none)."""
    out_bias: bool = True
    """Whether the output projection has a bias."""
    dropout: float = 0.0
    """Probability that an attention weight is dropped in training."""
    query_norm: NormSpec | None = None
    """Normalisation of each head of queries and of keys (Qwen 3)."""
    norm_heads_together: bool = False
    """Whether it normalises all heads together (OLMo 2)."""
    rotary: RotarySpec | None = None
    """Rotary positions of queries and keys."""
    score_width: int | None = None
    """Scores are divided by the root of this instead of a head's width; 1 leaves them as they are (T5)."""
    score_factor: float | None = None
    """Factor of the scores where it follows from no width (Granite)."""
    score_cap: float | None = None
    """Bound of the scores: `cap * tanh(score / cap)` (Gemma 2, https://arxiv.org/abs/2408.00118, section 2)."""
    gated_bias: bool = False
    """Whether each layer weighs the position bias that the stack shares (WavLM)."""

    def __post_init__(self) -> None:
        sizes = {"width": self.width, "num_heads": self.num_heads}
        optional = "num_kv_heads", "head_width", "score_width"
        sizes |= {name: getattr(self, name) for name in optional if getattr(self, name) is not None}
        check_sizes("A Transformer block", sizes)
        check_numbers("A Transformer block", {"attention_dropout": self.dropout})
        check_cap("The cap of attention scores", self.score_cap)
        if self.head_width is None and self.width % self.num_heads:
            raise ConfigError(
                f"The width of a Transformer block must be a multiple of its number of attention heads, "
                f"but {self.width} is not a multiple of {self.num_heads}."
            )
        if self.num_heads % self.kv_heads:
            raise ConfigError(
                f"Each key-value head serves equally many query heads, but {self.num_heads} (attention heads) is not a "
                f"multiple of {self.kv_heads} (key-value heads)."
            )
        check_sizes("A Transformer block", {"width of all heads": self.num_heads * self.head_dim})
        if self.rotary is not None and self.rotary.width > self.head_dim:
            raise ConfigError(
                f"Rotary positions rotate {self.rotary.width} channels of each head, but a head has {self.head_dim}."
            )

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.head_width or self.width // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def score_scale(self) -> float:
        """Factor of the attention scores."""
        if self.score_factor is not None:
            return self.score_factor
        return float((self.score_width or self.head_dim) ** -0.5)


@dataclass(frozen=True, kw_only=True)
class CrossAttentionSpec:
    """Attention to the memory; heads, biases and dropout are those of the block's self-attention."""

    memory_width: int | None = None
    """Width of the memory where it is not the block's (TrOCR)."""
    gated: bool = False
    """Whether it was inserted into a family without cross-attention, behind a gate that starts closed."""

    def __post_init__(self) -> None:
        if self.memory_width is not None:
            check_sizes("A Transformer block", {"memory_width": self.memory_width})
