"""The contract between the search and whatever runs a network: a decoder that takes one step at a time.

It holds weights and the encoded speech; everything that changes from step to step is its `State`, a value that it
returns and gets back.
"""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dragoman.generation.arrays import Array

__all__ = ["State", "Step", "StepDecoder"]

State = TypeVar("State")


class Step(NamedTuple, Generic[State]):
    """What a decoder returns.

    Attributes:
        logits: Scores of the next token, `[rows, vocab]`, of any floating type.
        state: To be handed back with the next tokens.
        decoder_attentions: Where the decoder was made to return them: one array `[rows, heads, read, length]` a layer.
        cross_attentions: The same with the frames of the encoded speech as the last axis.
        decoder_hidden_states: The same: `[rows, read, width]`, the embedding first, then one a layer.
        bonus: What others add to the logarithms of the probabilities, `[rows, vocab]`; see `fusion.py`.
    """

    logits: Array
    state: State
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None
    bonus: Array = None


class StepDecoder(Protocol[State]):
    """A decoder that generates one token at a time, the encoded speech already inside."""

    def start(self, prompt: Array) -> Step[State]:
        """Read the prompt int `[batch, prompt_length]`, one row for each utterance."""
        ...

    def expand(self, state: State, copies: int) -> State:
        """Repeat each row `copies` times (0, 0, …, 1, 1, …); what depends on the utterance alone may stay shared."""
        ...

    def step(self, tokens: Array, state: State) -> Step[State]:
        """Read one more token of each row, int `[rows]`."""
        ...

    def select(self, state: State, rows: Array) -> State:
        """Replace row i by row `rows[i]`, int `[rows]`, which always belongs to the same utterance."""
        ...
