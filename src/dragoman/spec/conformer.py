"""The extra parts of a Conformer block: a convolution, and attention scores that depend on distance."""

from dataclasses import dataclass
from enum import Enum

from dragoman.errors import ConfigError
from dragoman.spec.checks import check_numbers, check_sizes


class Distance(Enum):
    """How self-attention encodes the distance between a query's frame and a key's."""

    SINUSOID = "relative"  # sinusoids of the distance, projected by each layer (Transformer-XL)
    VECTOR = "relative_key"  # a learned vector for each distance up to a limit


@dataclass(frozen=True, kw_only=True)
class ConformerSpec:
    """A Conformer block (https://arxiv.org/abs/2005.08100, section 2): two half feed-forward networks around attention
    and a convolution.
    """

    kernel: int
    """Frames that the convolution covers."""
    causal: bool
    """Whether it covers no later frame and each frame is normalised; otherwise it is centred, and each channel is
    normalised by stored statistics."""
    bias: bool = False
    """Whether the convolutions have biases."""
    dropout: float = 0.0
    """Probability that an output of the convolution is dropped in training."""
    attn_dropout: float = 0.0
    """Probability that an output of attention is dropped in training."""
    norm_eps: float = 1e-5
    """Epsilon of all norms of the block."""
    distance: Distance | None = None
    """How attention encodes distance; `None` for not at all, or by rotary positions."""
    reach: tuple[int, int] = (0, 0)
    """How many frames back and ahead `Distance.VECTOR` has vectors for; farther ones share the last."""

    def __post_init__(self) -> None:
        check_sizes("A Conformer block", {"conv_depthwise_kernel_size": self.kernel})
        check_sizes("A Conformer block", {"positions to the left": self.reach[0]}, at_least=0)
        check_sizes("A Conformer block", {"positions to the right": self.reach[1]}, at_least=0)
        check_numbers("A Conformer block", {"dropout": self.dropout, "norm_eps": self.norm_eps})
        if self.kernel % 2 == 0:
            raise ConfigError(f"`conv_depthwise_kernel_size` must be odd, but is {self.kernel}.")
