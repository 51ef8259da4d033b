"""The arithmetic of a step: pure functions from one state of the search to the next.

Shapes are static, nothing is written in place and no value decides the flow of Python, so that the same functions run
in a Python loop over NumPy or PyTorch and inside `jax.lax.while_loop`. Running the decoder and drawing random keys is
the driver's part.

Legend: rows = utterances, or utterances x samples; beams = running hypotheses of an utterance; candidates = the best
continuations of an utterance, more than beams so that those which end leave enough others to go on with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dragoman.generation.arrays import Array, Length, Ops
from dragoman.generation.plan import Plan
from dragoman.generation.sampling import draw_without_replacement

__all__ = [
    "BeamRule",
    "BeamState",
    "Candidates",
    "RowState",
    "advance_beams",
    "advance_rows",
    "begin_beams",
    "begin_rows",
    "best_candidates",
    "drawn_candidates",
    "is_any",
    "still_open",
]

_NEVER = -1e9  # the score of what must not be chosen; finite, so that sums and comparisons stay defined


class RowState(NamedTuple):
    """Greedy search and sampling between two steps.

    Attributes:
        length: Tokens so far, the prompt included.
        tokens: int `[rows, max_length]`; what is not generated yet holds padding.
        ended: bool `[rows]`, true from the end token on.
    """

    length: Length
    tokens: Array
    ended: Array


def begin_rows(ops: Ops, plan: Plan, prompt: Array) -> RowState:
    """Start from a prompt int `[rows, prompt_length]`."""
    ended = ops.xp.zeros((prompt.shape[0],), dtype=ops.xp.bool, device=ops.device(prompt))
    return RowState(plan.prompt_length, _buffer(ops, prompt, plan.max_length, plan.pad), ended)


def advance_rows(ops: Ops, plan: Plan, state: RowState, chosen: Array) -> RowState:
    """Append the `chosen` tokens int `[rows]`, or padding to texts that have ended."""
    chosen = ops.xp.astype(chosen, state.tokens.dtype, copy=False)
    ended = state.ended
    if plan.eos:
        chosen = ops.xp.where(ended, plan.pad, chosen)
        ended = ended | is_any(chosen, plan.eos)
    return RowState(state.length + 1, _write(ops, state.tokens, state.length, chosen), ended)


@dataclass(frozen=True, kw_only=True)
class BeamRule:
    """How a group of beams scores and ends.

    Attributes:
        length_penalty, early_stopping: See `GenerationConfig`.
        keep_history: Remember which row each token was chosen from.
        first_row: The row of the first utterance's first beam of the group.
        rows_per_utterance: Beams of all groups.
    """

    length_penalty: float
    early_stopping: bool | Literal["never"]
    keep_history: bool
    first_row: int
    rows_per_utterance: int


class BeamState(NamedTuple):
    """Beam search between two steps.

    Attributes:
        length: Tokens of the running hypotheses, the prompt included.
        tokens: Running hypotheses, int `[batch, beams, max_length]`, the best first.
        scores: The sums of their log-probabilities, float32 `[batch, beams]`.
        history: The decoder's row that each of their tokens was chosen from, int
            `[batch, beams, max_length - prompt_length]`, -1 where there is none; `None` unless it is kept.
        best_tokens: Finished hypotheses, int `[batch, beams, max_length]`, the best first.
        best_scores: Their scores after the length penalty, float32 `[batch, beams]`.
        best_lengths: Their tokens, the prompt included, int `[batch, beams]`.
        best_history: As `history`.
        finished: Which of the places for finished hypotheses are taken, bool `[batch, beams]`.
        hopeful: Whether a running hypothesis may still beat a finished one, bool `[batch, 1]`.
        done: Whether the whole batch has come to its end, bool `[]`.
    """

    length: Length
    tokens: Array
    scores: Array
    history: Array | None
    best_tokens: Array
    best_scores: Array
    best_lengths: Array
    best_history: Array | None
    finished: Array
    hopeful: Array
    done: Array


class Candidates(NamedTuple):
    """Continuations, each `[batch, candidates]`: summed log-probabilities, the beams that they continue, new tokens."""

    scores: Array
    beams: Array
    tokens: Array


def begin_beams(ops: Ops, plan: Plan, rule: BeamRule, prompt: Array) -> BeamState:
    """Start from a prompt int `[batch, prompt_length]`; all but the first of the equal beams get a hopeless score."""
    xp, device = ops.xp, ops.device(prompt)
    shape = (prompt.shape[0], plan.num_beams)
    tokens = _buffer(ops, prompt, plan.max_length, plan.beam_fill)
    tokens = xp.broadcast_to(tokens[:, None, :], (*shape, plan.max_length))
    never = xp.full(shape, _NEVER, dtype=xp.float32, device=device)
    history = None
    if rule.keep_history:
        history = xp.full((*shape, plan.max_length - plan.prompt_length), -1, dtype=tokens.dtype, device=device)
    return BeamState(
        length=plan.prompt_length,
        tokens=tokens,
        scores=xp.where(xp.arange(plan.num_beams, device=device) == 0, xp.zeros_like(never), never),
        history=history,
        best_tokens=tokens,
        best_scores=never,
        best_lengths=xp.full(shape, plan.prompt_length, dtype=tokens.dtype, device=device),
        best_history=history,
        finished=xp.zeros(shape, dtype=xp.bool, device=device),
        hopeful=xp.ones((shape[0], 1), dtype=xp.bool, device=device),
        done=xp.zeros((), dtype=xp.bool, device=device),
    )


def best_candidates(ops: Ops, plan: Plan, running: Array, log_probs: Array) -> Candidates:
    """Return the best continuations of every utterance, the best first.

    Args:
        ops: The array library.
        plan: Gives the number of beams and, by the number of end tokens, of candidates.
        running: Scores of the beams, float32 `[batch, beams]`.
        log_probs: Log-probabilities of the next token, float32 `[batch * beams, vocab]`.
    """
    xp, (batch, beams), vocab = ops.xp, running.shape, log_probs.shape[1]
    count = _num_candidates(plan, vocab)
    # The best of each beam first, so that nothing of the size of the vocabulary is added up or copied.
    per_beam = min(count, vocab)
    values, tokens = ops.top_k(log_probs, per_beam)
    values = xp.reshape(values, (batch, beams, per_beam)) + running[:, :, None]
    values, places = ops.top_k(xp.reshape(values, (batch, beams * per_beam)), count)
    tokens = ops.gather(xp.reshape(tokens, (batch, beams * per_beam)), places)
    return Candidates(values, places // per_beam, tokens)


def drawn_candidates(ops: Ops, plan: Plan, running: Array, log_probs: Array, keys: Array) -> Candidates:
    """Draw continuations of every utterance without replacement, in the order drawn; one key for each utterance."""
    (batch, beams), vocab = running.shape, log_probs.shape[1]
    sums = ops.xp.reshape(log_probs, (batch, beams, vocab)) + running[:, :, None]
    sums = ops.xp.reshape(sums, (batch, beams * vocab))
    values, places = draw_without_replacement(ops, keys, sums, _num_candidates(plan, vocab))
    return Candidates(values, places // vocab, places % vocab)


def advance_beams(
    ops: Ops, plan: Plan, rule: BeamRule, state: BeamState, candidates: Candidates, stopped: Array | bool = False
) -> tuple[BeamState, Array, Array]:
    """Choose the beams that go on and the finished hypotheses to keep.

    `stopped` bool `[batch, candidates]` marks candidates that end for another reason than their token or length.

    Returns:
        The next state; the decoder's rows that the new beams continue and their new tokens, each int `[batch, beams]`.
    """
    xp, length, dtype = ops.xp, state.length, state.tokens.dtype
    tokens = xp.astype(candidates.tokens, dtype, copy=False)
    ends = is_any(tokens, plan.eos) | stopped
    running_scores, chosen = ops.top_k(xp.where(ends, candidates.scores + _NEVER, candidates.scores), plan.num_beams)
    ends = ends | (length + 1 >= plan.max_length)
    parents, appended = (ops.gather(x, chosen) for x in (candidates.beams, tokens))
    best = _keep_best(ops, plan, rule, state, candidates._replace(tokens=tokens), ends)
    hopeful = state.hopeful & _may_improve(plan, rule, ops, length + 1, running_scores, best.best_scores, best.finished)
    done = ~xp.any(hopeful) | xp.all(ends)
    if rule.early_stopping is True:
        done = done | xp.all(best.finished)
    rows = parents + _first_rows(ops, rule, state.scores)
    history = None
    if state.history is not None:
        values = xp.astype(rows, dtype, copy=False)
        history = _write(ops, _beams(ops, state.history, parents), length - plan.prompt_length, values)
    state = best._replace(
        length=length + 1,
        tokens=_write(ops, _beams(ops, state.tokens, parents), length, appended),
        scores=running_scores,
        history=history,
        hopeful=hopeful,
        done=done,
    )
    return state, rows, appended


def _keep_best(
    ops: Ops, plan: Plan, rule: BeamRule, state: BeamState, candidates: Candidates, ends: Array
) -> BeamState:
    """Merge the hypotheses that end now with those that ended before.

    Only candidates among the first `beams` count: the others are a reserve for the running ones.
    """
    xp, beams, length = ops.xp, plan.num_beams, state.length
    scores, parents, tokens, ends = (x[:, :beams] for x in (*candidates, ends))
    scores = scores / ((length + 1 - plan.prompt_length) ** rule.length_penalty)
    ends = ends & still_open(ops, rule, state)
    scores = xp.where(ends, scores, scores + _NEVER)
    best_scores, chosen = ops.top_k(xp.concat([state.best_scores, scores], axis=1), beams)

    def merged(old: Array, new: Array) -> Array:
        return ops.gather(xp.concat([old, new], axis=1), chosen)

    # Where a merged hypothesis is to be found: finished ones in the first places, then those it continues.
    own = xp.broadcast_to(xp.arange(beams, dtype=parents.dtype, device=ops.device(parents)), parents.shape)
    source = merged(own, parents + beams)
    is_new = chosen >= beams
    token = merged(tokens, tokens)
    history = None
    if state.history is not None and state.best_history is not None:
        history = _beams(ops, xp.concat([state.best_history, state.history], axis=1), source)
        rows = xp.astype(source - beams + _first_rows(ops, rule, scores), history.dtype)
        history = _write(ops, history, length - plan.prompt_length, rows, is_new)
    texts = _beams(ops, xp.concat([state.best_tokens, state.tokens], axis=1), source)
    return state._replace(
        best_tokens=_write(ops, texts, length, token, is_new),
        best_scores=best_scores,
        best_lengths=merged(state.best_lengths, xp.zeros_like(state.best_lengths) + (length + 1)),
        best_history=history,
        finished=merged(state.finished, ends),
    )


def still_open(ops: Ops, rule: BeamRule, state: BeamState) -> Array:
    """Return bool `[batch, 1]`: which utterances can still get another finished hypothesis."""
    if rule.early_stopping is not True:
        return state.hopeful
    return state.hopeful & ~ops.xp.all(state.finished, axis=1, keepdims=True)


def _may_improve(
    plan: Plan, rule: BeamRule, ops: Ops, length: Length, running: Array, best: Array, finished: Array
) -> Array:
    """Return bool `[batch, 1]`: whether the best running hypothesis may beat the worst finished one."""
    xp = ops.xp
    full = rule.early_stopping == "never" and rule.length_penalty > 0.0
    generated = (plan.max_length if full else length) - plan.prompt_length
    hope = running[:, :1] / (generated**rule.length_penalty)
    worst = xp.where(finished, xp.min(best, axis=1, keepdims=True), _NEVER)
    return xp.any(hope > worst, axis=1, keepdims=True)


def _num_candidates(plan: Plan, vocab: int) -> int:
    return min(max(2, 1 + len(plan.eos)) * plan.num_beams, plan.num_beams * vocab)


def _buffer(ops: Ops, prompt: Array, length: int, fill: int) -> Array:
    """Return the prompt with `fill` after it, `[rows, length]`."""
    shape = (prompt.shape[0], length - prompt.shape[1])
    return ops.xp.concat([prompt, ops.xp.full(shape, fill, dtype=prompt.dtype, device=ops.device(prompt))], axis=1)


def _write(ops: Ops, buffer: Array, place: Length, values: Array, where: Array | None = None) -> Array:
    """Return `buffer` `[..., n]` with `values` `[...]` at one place of its last axis, in the rows `where` if given."""
    here = ops.xp.arange(buffer.shape[-1], device=ops.device(buffer)) == place
    if where is not None:
        here = here & where[..., None]
    return ops.xp.where(here, values[..., None], buffer)


def _beams(ops: Ops, x: Array, places: Array) -> Array:
    """Pick beams: x `[batch, m, n]`, places `[batch, beams]` -> `[batch, beams, n]`."""
    places = ops.xp.broadcast_to(places[:, :, None], (*places.shape, x.shape[-1]))
    return ops.gather(x, places)


def _first_rows(ops: Ops, rule: BeamRule, scores: Array) -> Array:
    """Return the row of each utterance's first beam of the group, int `[batch, 1]`."""
    utterances = ops.xp.arange(scores.shape[0], device=ops.device(scores))
    return (utterances * rule.rows_per_utterance + rule.first_row)[:, None]


def is_any(tokens: Array, ids: Sequence[int]) -> Array:
    """Return bool of the shape of `tokens`: whether each is one of `ids`."""
    found = tokens == (ids[0] if ids else -1)
    for one in ids[1:]:
        found = found | (tokens == one)
    return found
