"""The driver of speculative decoding: a small decoder drafts, the large one checks a whole draft in one step.

The texts are those of greedy search with the large decoder alone; only the number of its steps is smaller
(https://arxiv.org/abs/2211.17192). In a batch, as many tokens are taken as all texts agree on.
"""

from typing import Any, Protocol

import numpy as np

from dragoman.batch import to_numpy
from dragoman.generation.arrays import Array
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import RowState, advance_rows, begin_rows
from dragoman.generation.run import Run

__all__ = ["RewindableDecoder", "search_with_draft"]


class RewindableDecoder(StepDecoder[State], Protocol[State]):
    """A decoder that can read several tokens at once, and take tokens back."""

    def read(self, tokens: Array, state: State) -> Step[State]:
        """Read tokens int `[rows, n]`; the logits are `[rows, n, vocab]`, after each of them."""
        ...

    def rewind(self, state: State, tokens: int) -> State:
        """Forget the last `tokens` tokens of every row."""
        ...


def search_with_draft(
    run: Run, decoder: RewindableDecoder[Any], draft: RewindableDecoder[Any], prompt: Array, step: Step[Any]
) -> GenerationResult:
    """Run greedy search from the first step on, with the help of a drafting decoder of the same vocabulary."""
    ops, xp = run.ops, run.ops.xp
    state = begin_rows(ops, run.plan, prompt)
    run.tell(prompt)
    memory, drafting = step.state, draft.start(prompt).state
    read = state.length  # tokens that the drafting decoder has read
    raw = run.scores_from(step)[:, None]  # [rows, 1, vocab]: after the prompt, nothing is drafted yet
    proposed = state.tokens[:, :0]
    while True:
        state, taken, over = _take(run, state, raw, proposed)
        if over:
            return run.result(sequences=state.tokens[:, : state.length], ended=state.ended)
        rejected = proposed.shape[1] + 1 - taken
        memory = decoder.rewind(memory, rejected) if rejected else memory
        if read >= state.length:
            drafting, read = draft.rewind(drafting, read - state.length + 1), state.length - 1
        drafting, read, proposed = _propose(run, draft, drafting, read, state)
        step = decoder.read(xp.concat([state.tokens[:, state.length - 1 : state.length], proposed], axis=1), memory)
        memory, raw = step.state, run.scores_from(step)


def _take(run: Run, state: RowState, raw: Array, proposed: Array) -> tuple[RowState, int, bool]:
    """Choose tokens as greedy search does, as long as all texts that go on choose what was proposed, and one more.

    Args:
        run: The call of `generate`.
        state: The texts.
        raw: Scores float32 `[rows, proposed + 1, vocab]`, before and after each proposed token.
        proposed: int `[rows, proposed]`.

    Returns:
        The longer texts, how many tokens were taken, and whether all is over.
    """
    ops, taken = run.ops, 0
    while True:
        scores = run.scores_of(state.tokens, state.length, raw[:, taken])
        run.record_scores(scores)
        state = run.advanced(advance_rows(ops, run.plan, state, ops.xp.argmax(scores, axis=-1)))
        taken += 1
        if run.is_over(state):
            return state, taken, True
        if taken > proposed.shape[1]:
            return state, taken, False
        agreed = (state.tokens[:, state.length - 1] == proposed[:, taken - 1]) | state.ended
        if not bool(ops.xp.all(agreed)):
            return state, taken, False


def _propose(
    run: Run, draft: RewindableDecoder[Any], drafting: Any, read: int, state: RowState
) -> tuple[Any, int, Array]:
    """Let the drafting decoder write on, until it becomes unsure of every text.

    Returns:
        Its state, how many tokens it has read, and the proposed tokens int `[rows, proposed]`.
    """
    ops, xp, options = run.ops, run.ops.xp, run.options
    room = run.plan.max_length - state.length - 1  # the last token is chosen without a proposal
    proposed: list[Array] = []
    step = draft.read(state.tokens[:, read : state.length], drafting)
    logits, read = step.logits[:, -1], state.length
    while len(proposed) < min(options.num_assistant_tokens, room):
        log_probs, tokens = ops.top_k(ops.log_softmax(logits), 1)
        sure = np.exp(to_numpy(log_probs[:, 0])) >= options.assistant_confidence_threshold
        if not (sure & ~to_numpy(state.ended)).any():
            break
        proposed.append(xp.astype(tokens[:, 0], state.tokens.dtype, copy=False))
        if len(proposed) == min(options.num_assistant_tokens, room):
            break
        step = draft.step(proposed[-1], step.state)
        logits, read = step.logits, read + 1
    return step.state, read, xp.stack(proposed, axis=1) if proposed else state.tokens[:, :0]
