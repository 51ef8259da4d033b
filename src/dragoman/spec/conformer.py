"""What a Conformer block has beyond other blocks: a convolution, and attention by the distance of frames."""

from dataclasses import dataclass
from enum import Enum

from dragoman.errors import ConfigError
from dragoman.spec.checks import check_numbers, check_sizes

__all__ = ["ConformerSpec", "Distance"]


class Distance(Enum):
    """How self-attention knows how far a frame is from the one that looks."""

    SINUSOID = "relative"  # sinusoids of the distance, projected by each layer (Transformer-XL)
    VECTOR = "relative_key"  # a learned vector for each distance up to a limit


@dataclass(frozen=True, kw_only=True)
class ConformerSpec:
    """A convolution over `kernel` frames between attention and the second feed-forward network.

    Where it is `causal` it hears no later frame and normalises each frame, else it hears both sides alike and
    normalises each channel by stored statistics. `reach` is how far before and behind a frame `Distance.VECTOR` tells
    distances apart.
    """

    kernel: int
    causal: bool
    dropout: float = 0.0
    norm_eps: float = 1e-5
    distance: Distance | None = None
    reach: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """Check the values."""
        check_sizes("A Conformer block", {"conv_depthwise_kernel_size": self.kernel})
        check_sizes("A Conformer block", {"positions to the left": self.reach[0]}, at_least=0)
        check_sizes("A Conformer block", {"positions to the right": self.reach[1]}, at_least=0)
        check_numbers("A Conformer block", {"dropout": self.dropout, "norm_eps": self.norm_eps})
        if self.kernel % 2 == 0:
            raise ConfigError(f"`conv_depthwise_kernel_size` must be odd, but is {self.kernel}.")
