"""States of scorers that are a tuple with one value per row."""

from typing import TypeVar

from dragoman.batch import to_numpy
from dragoman.generation.arrays import Array

T = TypeVar("T")


def repeat_rows(state: tuple[T, ...], copies: int) -> tuple[T, ...]:
    """Repeat each row `copies` times."""
    return tuple(one for one in state for _ in range(copies))


def select_rows(state: tuple[T, ...], rows: Array) -> tuple[T, ...]:
    """Replace row i by row `rows[i]`."""
    return tuple(state[row] for row in to_numpy(rows).tolist())
