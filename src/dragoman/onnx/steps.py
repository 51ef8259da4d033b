"""The decoder of a batch of utterances, step by step; a `StepDecoder` over NumPy.

Keys and values of earlier tokens go from one step to the next in the memory of ONNX Runtime. Beams are reordered by
the graph itself: it reads the row that each row continues. The memory exists once per utterance.

Axes: batch (utterances), rows (utterances x beams), tokens, prefix (positions of speech before the text).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from dragoman.generation.decoder import Step
from dragoman.onnx.session import Graphs, Value, value_of


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a step leaves to the next.

    Attributes:
        values: Keys and values of the tokens so far, by the names of the inputs.
        length: Number of these tokens.
        parents: The row of `values` that each row of the next step continues.
        prefix_mask: Which positions of the speech before the text are valid; `None` with cross-attention.
    """

    values: Mapping[str, Value]
    length: int
    parents: Int[np.ndarray[Any, Any], " rows"]
    prefix_mask: Bool[np.ndarray[Any, Any], "batch prefix"] | None = None


class GraphDecoder:
    """A decoder that reads the memory of a batch.

    Args:
        graphs: The model's.
        memory: Outputs of `memory.onnx`, by name.
    """

    def __init__(self, graphs: Graphs, memory: Mapping[str, Value]) -> None:
        self._graphs, self._facts = graphs, graphs.facts
        self._memory = memory
        self._width = memory["prefix"].shape()[2] if self._facts.prefix else 0

    def start(self, prompt: Int[np.ndarray[Any, Any], "batch tokens"]) -> Step[Past]:
        """Read the prompt."""
        rows, facts = prompt.shape[0], self._facts
        empty = value_of(np.zeros((rows, facts.kv_heads, 0, facts.head_dim), np.float32))
        mask, prefix = None, None
        if facts.prefix:
            prefix = self._memory["prefix"]
            given = self._memory.get("prefix_mask")
            mask = np.ones(prefix.shape()[:2], bool) if given is None else given.numpy()
        past = Past(values=dict.fromkeys(facts.pairs("past"), empty), length=0, parents=np.arange(rows))
        return self._run(prompt, replace(past, prefix_mask=mask), prefix)

    def expand(self, state: Past, copies: int) -> Past:
        """Repeat each row; nothing is copied before the next step."""
        return replace(state, parents=np.repeat(state.parents, copies))

    def step(self, tokens: Int[np.ndarray[Any, Any], " rows"], state: Past) -> Step[Past]:
        """Read one more token of each row."""
        return self._run(tokens[:, None], state, None)

    def select(self, state: Past, rows: Int[np.ndarray[Any, Any], " rows"]) -> Past:
        """Let row `i` continue row `rows[i]`."""
        return replace(state, parents=state.parents[rows])

    def _run(self, tokens: Int[np.ndarray[Any, Any], "rows n"], state: Past, prefix: Value | None) -> Step[Past]:
        read = {"tokens": value_of(tokens.astype(np.int64)), "parents": value_of(state.parents.astype(np.int64))}
        mask = state.prefix_mask
        if mask is None:
            read |= self._memory
        else:
            mask = mask[state.parents] if prefix is None else mask
            read |= self._prefix_inputs(tokens.shape, state.length, mask, prefix)
        out = self._graphs.run("decoder", {**read, **state.values})
        logits: Float[np.ndarray[Any, Any], "rows vocab"] = out.pop("logits").numpy()
        past = Past(
            values={name: out[name.replace("past", "present")] for name in self._facts.pairs("past")},
            length=state.length + tokens.shape[1] + (0 if prefix is None else prefix.shape()[1]),
            parents=np.arange(tokens.shape[0]),
            prefix_mask=mask,
        )
        return Step(logits=logits, state=past)

    def _prefix_inputs(
        self, shape: tuple[int, ...], length: int, mask: np.ndarray[Any, Any], prefix: Value | None
    ) -> dict[str, Value]:
        """Return the prefix (once; later an empty one), which positions are valid, and the numbers of the new ones."""
        rows, count = shape
        text = max(length - mask.shape[1], 0)
        valid = np.concatenate([mask, np.ones((rows, text + count), bool)], 1)
        positions = np.maximum(np.cumsum(valid, 1) - 1, 0)[:, length:]
        if prefix is None:
            prefix = value_of(np.zeros((rows, 0, self._width), np.float32))
        return {"prefix": prefix, "mask": value_of(valid), "positions": value_of(positions.astype(np.int64))}
