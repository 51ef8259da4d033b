"""`StepDecoder`, the interface between the search and a network: a decoder that takes one step at a time.

A decoder holds weights and the encoded speech; everything that changes from step to step is its `State`, a value that
it returns and receives again.
"""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dragoman.generation.arrays import Array

State = TypeVar("State")


class Step(NamedTuple, Generic[State]):
    """The outputs of one step of a decoder.

    Attributes:
        logits: Scores of the next token, `[rows, vocab]`, of any floating type.
        state: Passed to the next step.
        decoder_attentions: Self-attention weights, `[rows, heads, read, length]` per layer; `None` unless requested.
        cross_attentions: Cross-attention weights, `[rows, heads, read, frames]` per layer; likewise.
        decoder_hidden_states: `[rows, read, width]` for the embedding and each layer; likewise.
        bonus: Scores to add to the log-probabilities, `[rows, vocab]`; see `scorers/fusion.py`.
    """

    logits: Array
    state: State
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None
    bonus: Array = None


class StepDecoder(Protocol[State]):
    """A decoder of one batch of encoded speech that reads one token at a time."""

    def start(self, prompt: Array) -> Step[State]:
        """Read the prompt int `[batch, prompt_length]`, one row per utterance."""
        ...

    def expand(self, state: State, copies: int) -> State:
        """Repeat each row `copies` times (0, 0, …, 1, 1, …); copies may share what depends on the utterance alone."""
        ...

    def step(self, tokens: Array, state: State) -> Step[State]:
        """Read the next token of each row, int `[rows]`."""
        ...

    def select(self, state: State, rows: Array) -> State:
        """Replace row i by row `rows[i]`, which belongs to the same utterance; `rows` int `[rows]`."""
        ...
