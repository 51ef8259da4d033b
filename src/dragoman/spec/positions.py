"""How a speech encoder encodes positions: added to the frames, or to the attention scores between them."""

from dataclasses import dataclass

from dragoman.errors import ConfigError
from dragoman.spec.checks import MOST_LAYERS, check_sizes
from dragoman.spec.enums import Activation


@dataclass(frozen=True, kw_only=True)
class ConvPositionSpec:
    """Positions from one wide grouped convolution over the frames (wav2vec 2.0, section 2)."""

    kernel: int
    """Frames that the convolution covers."""
    groups: int
    """Groups of channels, each convolved on its own."""
    activation: Activation
    """Non-linearity after the convolution."""
    batch_norm: bool = False
    """Whether the input is batch-normalised (an option of HuBERT) instead of the weight, per kernel position."""
    stride: int = 1
    """Frames of the front end for one of the stack (SEW)."""

    def __post_init__(self) -> None:
        sizes = {"kernel": self.kernel, "groups": self.groups, "stride": self.stride}
        check_sizes("The position convolution", sizes)


@dataclass(frozen=True, kw_only=True)
class ConvStackPositionSpec:
    """Positions from several grouped convolutions, each normalised without weights (data2vec, section 3.1)."""

    num_layers: int
    """Number of convolutions."""
    kernel: int
    """Frames that each of them covers."""
    groups: int
    """Groups of channels, each convolved on its own."""
    activation: Activation
    """Non-linearity after each convolution."""

    def __post_init__(self) -> None:
        check_sizes("The position convolutions", {"kernel": self.kernel, "groups": self.groups})
        check_sizes("The position convolutions", {"num_layers": self.num_layers}, at_most=MOST_LAYERS)


@dataclass(frozen=True, kw_only=True)
class TablePositionSpec:
    """One stored vector per frame (Whisper)."""

    num_positions: int
    """Rows of the table: the most frames that the encoder takes."""

    def __post_init__(self) -> None:
        check_sizes("The position table", {"num_positions": self.num_positions})


@dataclass(frozen=True, kw_only=True)
class SinusoidPositionSpec:
    """Sines and cosines, computed for any number of frames (fairseq)."""

    first: int = 0
    """Position of the first frame."""
    period: int | None = None
    """Frames after which positions begin again (Qwen3-ASR)."""


PositionSpec = ConvPositionSpec | ConvStackPositionSpec | TablePositionSpec | SinusoidPositionSpec


@dataclass(frozen=True, kw_only=True)
class BucketBiasSpec:
    """A learned bias of attention scores for each bucket of distances (WavLM, section 3.1; T5, section 2.1)."""

    num_buckets: int
    """Number of buckets, both directions together where there are two."""
    max_distance: int
    """Distance from which on all share the last bucket."""

    def __post_init__(self) -> None:
        check_sizes("The position bias", {"num_buckets": self.num_buckets, "max_bucket_distance": self.max_distance}, 4)
        if self.max_distance <= self.num_buckets // 4:
            raise ConfigError(
                f"`max_bucket_distance` must be more than a quarter of `num_buckets` ({self.num_buckets}), but is "
                f"{self.max_distance}."
            )


@dataclass(frozen=True, kw_only=True)
class DisentangledSpec:
    """Attention whose scores add products with a learned vector for each distance (DeBERTa, section 3.1)."""

    span: int
    """Number of vectors in each direction: one per distance, or with `max_distance` for the first half of them only."""
    max_distance: int | None = None
    """Distance at which the last vector is reached; those of the second half cover ever wider ranges (buckets)."""
    by_query: bool = True
    """Whether queries are multiplied with the vectors."""
    by_key: bool = True
    """Whether keys are multiplied with the vectors."""
    shared: bool = True
    """Whether the vectors use the projections of the frames instead of their own."""
    norm: bool = True
    """Whether the vectors are normalised first."""

    def __post_init__(self) -> None:
        check_sizes("Disentangled attention", {"position_buckets or max_position_embeddings": self.span}, 4)
        if self.max_distance is not None and self.max_distance - 1 <= self.span // 2:
            raise ConfigError(
                f"`max_position_embeddings` must be more than half of `position_buckets` ({self.span}) by two or more, "
                f"but is {self.max_distance}."
            )
