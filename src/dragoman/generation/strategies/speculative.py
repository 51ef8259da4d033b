"""Speculative decoding: a small draft model proposes tokens, the main model checks all of them in one step.

The result is that of greedy search with the main model alone, in fewer of its steps (https://arxiv.org/abs/2211.17192).
In a batch, proposals are accepted up to the first one that any sequence rejects.
"""

from typing import Any, Protocol

import numpy as np

from dragoman.batch import to_numpy
from dragoman.generation.arrays import Array, has_possible
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import RowState, advance_rows, begin_rows
from dragoman.generation.run import Run


class RewindableDecoder(StepDecoder[State], Protocol[State]):
    """A decoder that can also read several tokens at once and discard the last ones."""

    def read(self, tokens: Array, state: State) -> Step[State]:
        """Read tokens int `[rows, n]`; the logits `[rows, n, vocab]` are those after each of them."""
        ...

    def rewind(self, state: State, tokens: int) -> State:
        """Discard the last `tokens` tokens of every row."""
        ...


def search_with_draft(
    run: Run, decoder: RewindableDecoder[Any], draft: RewindableDecoder[Any], prompt: Array, step: Step[Any]
) -> GenerationResult:
    """Run greedy search from the first step on; `draft` has the same vocabulary as `decoder`."""
    ops, xp = run.ops, run.ops.xp
    state = begin_rows(ops, run.plan, prompt)
    run.stream(prompt)
    decoder_state, draft_state = step.state, draft.start(prompt).state
    read = state.length  # tokens that the draft model has read
    raw = run.scores_from(step)[:, None]  # [rows, 1, vocab]: after the prompt, nothing is proposed yet
    proposed = state.tokens[:, :0]
    while True:
        state, taken, over = _accept(run, state, raw, proposed)
        if over:
            return run.rows_result(state)
        rejected = proposed.shape[1] + 1 - taken
        decoder_state = decoder.rewind(decoder_state, rejected) if rejected else decoder_state
        if read >= state.length:
            draft_state, read = draft.rewind(draft_state, read - state.length + 1), state.length - 1
        draft_state, read, proposed = _propose(run, draft, draft_state, read, state)
        last = state.tokens[:, state.length - 1 : state.length]
        step = decoder.read(xp.concat([last, proposed], axis=1), decoder_state)
        decoder_state, raw = step.state, run.scores_from(step)


def _accept(run: Run, state: RowState, raw: Array, proposed: Array) -> tuple[RowState, int, bool]:
    """Choose tokens greedily while all unfinished sequences choose the proposed ones, and one more.

    Args:
        run: The call of `generate`.
        state: The sequences.
        raw: Scores float32 `[rows, proposed + 1, vocab]`, before and after each proposed token.
        proposed: int `[rows, proposed]`.

    Returns:
        The longer sequences, the number of new tokens, and whether the search is over.
    """
    ops, taken = run.ops, 0
    while True:
        scores = run.process(state.tokens, state.length, raw[:, taken])
        run.record_scores(scores)
        chosen = ops.xp.argmax(scores, axis=-1)
        state = run.after_step(advance_rows(ops, run.plan, state, chosen, has_possible(ops, scores)))
        taken += 1
        if run.is_over(state):
            return state, taken, True
        if taken > proposed.shape[1]:
            return state, taken, False
        agreed = (state.tokens[:, state.length - 1] == proposed[:, taken - 1]) | state.ended
        if not bool(ops.xp.all(agreed)):
            return state, taken, False


def _propose(
    run: Run, draft: RewindableDecoder[Any], draft_state: Any, read: int, state: RowState
) -> tuple[Any, int, Array]:
    """Propose tokens greedily with the draft model, until it is uncertain for every unfinished sequence.

    Returns:
        Its state, the number of tokens it has read, and the proposed tokens int `[rows, proposed]`.
    """
    ops, xp, options = run.ops, run.ops.xp, run.options
    limit = min(
        options.num_assistant_tokens, run.plan.max_length - state.length - 1
    )  # the last token needs no proposal
    proposed: list[Array] = []
    step = draft.read(state.tokens[:, read : state.length], draft_state)
    logits, read = step.logits[:, -1], state.length
    while len(proposed) < limit:
        log_probs, tokens = ops.top_k(ops.log_softmax(logits), 1)
        confident = np.exp(to_numpy(log_probs[:, 0])) >= options.assistant_confidence_threshold
        if not (confident & ~to_numpy(state.ended)).any():
            break
        proposed.append(xp.astype(tokens[:, 0], state.tokens.dtype, copy=False))
        if len(proposed) == limit:
            break
        step = draft.step(proposed[-1], step.state)
        logits, read = step.logits, read + 1
    return step.state, read, xp.stack(proposed, axis=1) if proposed else state.tokens[:, :0]
