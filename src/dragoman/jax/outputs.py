"""What `generate` returns in JAX: an output with `sequences`, as in the Flax models of `transformers`, and an array.

Axes: rows (sequences), length.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dragoman.api.outputs import ModelOutput
from dragoman.generation.result import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput

_OPERATORS = ["eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "and_", "or_", "mod", "floordiv"]


@jax.tree_util.register_dataclass
@dataclass(init=False, eq=False)
class FlaxGenerateOutput(ModelOutput):
    """Token ids, and with beams their scores.

    It is read as an output, `output.sequences`, `output["sequences"]`, `output[0]`, and for the rest it is the array of
    the token ids: `output[:, 1:]`, `output.shape`, `output == pad`, `numpy.asarray(output)`; iteration gives its rows.
    It may be returned from `jax.jit` and `jax.pmap`.

    Attributes:
        sequences: Token ids, the prompt included, padded after the end.
        scores: With beams, the hypotheses' scores after the length penalty.
    """

    sequences: Int[Array, "rows length"] = None  # type: ignore[assignment]
    scores: Float[Array, " rows"] | None = None

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str | int) else self.sequences[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("sequences", "scores"):  # not set yet (copy, pickle)
            raise AttributeError(name)
        return getattr(self.sequences, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.sequences)

    def __len__(self) -> int:
        return len(self.sequences)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.sequences, dtype=dtype) if copy else np.asarray(self.sequences, dtype=dtype)

    def __jax_array__(self) -> Array:
        return self.sequences


def _operator(name: str) -> Callable[[Any, Any], Any]:
    function = getattr(operator, name)

    def apply(self: FlaxGenerateOutput, other: Any) -> Any:
        return function(self.sequences, getattr(other, "sequences", other))

    return apply


for _name in _OPERATORS:
    setattr(FlaxGenerateOutput, f"__{_name.rstrip('_')}__", _operator(_name))
for _output in GenerateEncoderDecoderOutput, GenerateBeamEncoderDecoderOutput:
    jax.tree_util.register_dataclass(_output)
