"""Averages after the stack of a speech encoder."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.spec.checks import check_sizes


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """Averages of neighbouring states, then the norm that other stacks end with (Qwen2-Audio)."""

    width: int
    """Width of the states."""
    stride: int = 2
    """States that become one; a remainder at the end is dropped."""

    num_layers: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_sizes("The average", {"stride": self.stride, "width": self.width})

    @property
    def shortest_input(self) -> int:
        """The fewest frames that leave one."""
        return self.stride

    def frame_lengths(self, frames: Any) -> Any:
        """Return the number of frames left of `frames`, an int or an integer array of any framework."""
        return frames // self.stride
