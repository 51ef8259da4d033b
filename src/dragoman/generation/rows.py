"""One step of greedy search and sampling, as pure functions from one state to the next.

Shapes are static, nothing is written in place and no value decides Python's control flow, so the same functions run in
a Python loop over NumPy or PyTorch and inside `jax.lax.while_loop`. Not here: running the decoder and drawing random
keys, which is the work of the drivers (`strategies/`).

Legend: rows = sequences in flight: utterances, or utterances x samples.
"""

from typing import NamedTuple

from dragoman.generation.arrays import Array, Length, Ops, is_any, padded_to, written_at
from dragoman.generation.plan import Plan


class RowState(NamedTuple):
    """Greedy search or sampling between two steps.

    Attributes:
        length: Tokens so far, the prompt included.
        tokens: int `[rows, max_length]`, padded after `length`.
        ended: bool `[rows]`, true from the end token on.
        failed: bool `[rows]`, true where no token was possible before the end; the driver raises an error.
    """

    length: Length
    tokens: Array
    ended: Array
    failed: Array


def begin_rows(ops: Ops, plan: Plan, prompt: Array) -> RowState:
    """Start from a prompt int `[rows, prompt_length]`."""
    ended = ops.xp.zeros((prompt.shape[0],), dtype=ops.xp.bool, device=ops.device(prompt))
    return RowState(plan.prompt_length, padded_to(ops, prompt, plan.max_length, plan.pad), ended, ended)


def advance_rows(ops: Ops, plan: Plan, state: RowState, chosen: Array, possible: Array) -> RowState:
    """Append the `chosen` tokens int `[rows]`; sequences that have ended get padding, and those without a `possible`
    token, bool `[rows]`, end.
    """
    chosen = ops.xp.astype(chosen, state.tokens.dtype, copy=False)
    ended, failed = state.ended, state.failed | ~(possible | state.ended)
    if plan.eos:
        chosen = ops.xp.where(ended, plan.pad, chosen)
        ended = ended | is_any(chosen, plan.eos)
    return RowState(state.length + 1, written_at(ops, state.tokens, state.length, chosen), ended | failed, failed)
