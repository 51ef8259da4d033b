"""How a speech encoder tells where a frame stands: what is added to the frames, or to the attention between them."""

from dataclasses import dataclass

from dragoman.errors import ConfigError
from dragoman.spec.checks import MOST_LAYERS, check_sizes
from dragoman.spec.enums import Activation

__all__ = [
    "BucketBiasSpec",
    "ConvPositionSpec",
    "ConvStackPositionSpec",
    "DisentangledSpec",
    "PositionSpec",
    "SinusoidPositionSpec",
    "TablePositionSpec",
]


@dataclass(frozen=True, kw_only=True)
class ConvPositionSpec:
    """Positions from a wide grouped convolution over the frames, added to them (wav2vec 2.0, section 2).

    The weight is normalised per kernel position unless `batch_norm` normalises the input instead (HuBERT's option). A
    `stride` lowers the frame rate of the stack (SEW).
    """

    kernel: int
    groups: int
    activation: Activation
    batch_norm: bool = False
    stride: int = 1

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = {"kernel": self.kernel, "groups": self.groups, "stride": self.stride}
        check_sizes("The position convolution", sizes)


@dataclass(frozen=True, kw_only=True)
class ConvStackPositionSpec:
    """Positions from several grouped convolutions, each normalised without weights (data2vec, section 3.1)."""

    num_layers: int
    kernel: int
    groups: int
    activation: Activation

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The position convolutions", {"kernel": self.kernel, "groups": self.groups})
        check_sizes("The position convolutions", {"num_layers": self.num_layers}, at_most=MOST_LAYERS)


@dataclass(frozen=True, kw_only=True)
class TablePositionSpec:
    """One stored vector a frame, added to it; no more than `num_positions` frames fit."""

    num_positions: int

    def __post_init__(self) -> None:
        """Check the size."""
        check_sizes("The position table", {"num_positions": self.num_positions})


@dataclass(frozen=True, kw_only=True)
class SinusoidPositionSpec:
    """Sines and cosines, computed for as many frames as there are; the frames are numbered from `first` on."""

    first: int = 0


PositionSpec = ConvPositionSpec | ConvStackPositionSpec | TablePositionSpec | SinusoidPositionSpec


@dataclass(frozen=True, kw_only=True)
class BucketBiasSpec:
    """A learned number for each distance between frames, distances in buckets (WavLM, section 3.1)."""

    num_buckets: int
    max_distance: int

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The position bias", {"num_buckets": self.num_buckets, "max_bucket_distance": self.max_distance}, 4)
        if self.max_distance <= self.num_buckets // 4:
            raise ConfigError(
                f"`max_bucket_distance` must be more than a quarter of `num_buckets` ({self.num_buckets}), but is "
                f"{self.max_distance}."
            )


@dataclass(frozen=True, kw_only=True)
class DisentangledSpec:
    """A learned vector for each distance, which queries and keys look at besides each other (DeBERTa, section 3.1).

    Distances up to half of `span` are told apart one by one, those up to `max_distance` in ever wider buckets; without
    `max_distance` all up to `span` one by one. `by_query` and `by_key` say whose look counts, `shared` that the vectors
    go through the projections of the contents, `norm` that they are normalised first.
    """

    span: int
    max_distance: int | None = None
    by_query: bool = True
    by_key: bool = True
    shared: bool = True
    norm: bool = True

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("Disentangled attention", {"position_buckets or max_position_embeddings": self.span}, 4)
        if self.max_distance is not None and self.max_distance - 1 <= self.span // 2:
            raise ConfigError(
                f"`max_position_embeddings` must be more than half of `position_buckets` ({self.span}) by two or more, "
                f"but is {self.max_distance}."
            )
