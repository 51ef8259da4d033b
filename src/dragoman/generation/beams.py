"""One step of beam search and beam sampling, as pure functions from one state to the next.

They run in a Python loop and inside `jax.lax.while_loop`, as those of `rows.py` do.

Legend: beams = running hypotheses of an utterance (of one group of them in diverse beam search); candidates = the best
continuations of an utterance, more than beams, so that enough remain when some of them end.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dragoman.generation.arrays import Array, Length, Ops, is_any, padded_to, written_at
from dragoman.generation.plan import Plan
from dragoman.generation.sampling import draw_without_replacement

EXCLUDED = -1e9
"""The score of a hypothesis that must not be chosen; finite, so that sums and comparisons stay defined."""


@dataclass(frozen=True, kw_only=True)
class BeamRule:
    """How a group of beams scores its hypotheses and ends.

    Attributes:
        length_penalty, early_stopping: See `GenerationConfig`.
        keep_history: Record which row each token was chosen from.
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
        tokens: Running hypotheses, int `[batch, beams, max_length]`, best first.
        scores: Their summed log-probabilities, float32 `[batch, beams]`.
        history: The decoder's row that each of their tokens was chosen from, int
            `[batch, beams, max_length - prompt_length]`, -1 where there is none; `None` unless it is kept.
        best_tokens: Finished hypotheses, int `[batch, beams, max_length]`, best first.
        best_scores: Their scores after the length penalty, float32 `[batch, beams]`.
        best_lengths: Their tokens, the prompt included, int `[batch, beams]`.
        best_history: Like `history`.
        finished: Which slots for finished hypotheses are taken, bool `[batch, beams]`.
        hopeful: Whether a running hypothesis may still beat a finished one, bool `[batch, 1]`.
        failed: Where no token was possible while the utterance was searched, bool `[batch, 1]`.
        done: Whether the search has ended for the whole batch, bool `[]`.
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
    failed: Array
    done: Array


class Candidates(NamedTuple):
    """Continuations, each `[batch, candidates]`: summed log-probabilities, the beams they continue, new tokens."""

    scores: Array
    beams: Array
    tokens: Array


def begin_beams(ops: Ops, plan: Plan, rule: BeamRule, prompt: Array) -> BeamState:
    """Start from a prompt int `[batch, prompt_length]`; the beams are equal, so all but the first are excluded."""
    xp, device = ops.xp, ops.device(prompt)
    shape = (prompt.shape[0], plan.num_beams)
    tokens = padded_to(ops, prompt, plan.max_length, plan.beam_fill)
    tokens = xp.broadcast_to(tokens[:, None, :], (*shape, plan.max_length))
    excluded = xp.full(shape, EXCLUDED, dtype=xp.float32, device=device)
    history = None
    if rule.keep_history:
        history = xp.full((*shape, plan.max_length - plan.prompt_length), -1, dtype=tokens.dtype, device=device)
    return BeamState(
        length=plan.prompt_length,
        tokens=tokens,
        scores=xp.where(xp.arange(plan.num_beams, device=device) == 0, xp.zeros_like(excluded), excluded),
        history=history,
        best_tokens=tokens,
        best_scores=excluded,
        best_lengths=xp.full(shape, plan.prompt_length, dtype=tokens.dtype, device=device),
        best_history=history,
        finished=xp.zeros(shape, dtype=xp.bool, device=device),
        hopeful=xp.ones((shape[0], 1), dtype=xp.bool, device=device),
        failed=xp.zeros((shape[0], 1), dtype=xp.bool, device=device),
        done=xp.zeros((), dtype=xp.bool, device=device),
    )


def best_candidates(ops: Ops, plan: Plan, running: Array, log_probs: Array) -> Candidates:
    """Return the best continuations of every utterance, best first.

    Args:
        ops: The array library.
        plan: Gives the number of beams and, through the number of end tokens, of candidates.
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
    """Draw continuations of every utterance without replacement, in the order drawn; `keys` int32 `[batch]`."""
    (batch, beams), vocab = running.shape, log_probs.shape[1]
    sums = ops.xp.reshape(log_probs, (batch, beams, vocab)) + running[:, :, None]
    sums = ops.xp.reshape(sums, (batch, beams * vocab))
    values, places = draw_without_replacement(ops, keys, sums, _num_candidates(plan, vocab))
    return Candidates(values, places // vocab, places % vocab)


def advance_beams(
    ops: Ops,
    plan: Plan,
    rule: BeamRule,
    state: BeamState,
    candidates: Candidates,
    possible: Array,
    stopped: Array | bool = False,
) -> tuple[BeamState, Array, Array]:
    """Choose the next running beams and the finished hypotheses to keep.

    `possible` bool `[batch]` tells where any token can follow (`has_possible`); elsewhere the utterance has failed.
    `stopped` bool `[batch, candidates]` marks candidates that end for another reason than their token or length.

    Returns:
        The next state; the decoder's rows that the new beams continue and their new tokens, each int `[batch, beams]`.
    """
    xp, length, dtype = ops.xp, state.length, state.tokens.dtype
    tokens = xp.astype(candidates.tokens, dtype, copy=False)
    ends = is_any(tokens, plan.eos) | stopped
    running_scores, chosen = ops.top_k(xp.where(ends, candidates.scores + EXCLUDED, candidates.scores), plan.num_beams)
    ends = ends | (length + 1 >= plan.max_length)
    parents, appended = (ops.gather(x, chosen) for x in (candidates.beams, tokens))
    best = _keep_best(ops, plan, rule, state, candidates._replace(tokens=tokens), ends)
    failed = state.failed | (state.hopeful & ~possible[:, None])
    hopeful = state.hopeful & ~failed & _may_improve(ops, plan, rule, length + 1, running_scores, best)
    done = ~xp.any(hopeful) | xp.all(ends)
    if rule.early_stopping is True:
        done = done | xp.all(best.finished)
    rows = parents + _first_rows(ops, rule, state.scores)
    history = None
    if state.history is not None:
        values = xp.astype(rows, dtype, copy=False)
        history = written_at(ops, _take_beams(ops, state.history, parents), length - plan.prompt_length, values)
    state = best._replace(
        length=length + 1,
        tokens=written_at(ops, _take_beams(ops, state.tokens, parents), length, appended),
        scores=running_scores,
        history=history,
        hopeful=hopeful,
        failed=failed,
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
    ends = ends & accepts_finished(ops, rule, state)
    scores = xp.where(ends, scores, scores + EXCLUDED)
    best_scores, chosen = ops.top_k(xp.concat([state.best_scores, scores], axis=1), beams)

    def merged(old: Array, new: Array) -> Array:
        return ops.gather(xp.concat([old, new], axis=1), chosen)

    # Where to find the tokens of a merged hypothesis: finished ones come first, then the running ones it continues.
    own = xp.broadcast_to(xp.arange(beams, dtype=parents.dtype, device=ops.device(parents)), parents.shape)
    source = merged(own, parents + beams)
    is_new = chosen >= beams
    history = None
    if state.history is not None and state.best_history is not None:
        history = _take_beams(ops, xp.concat([state.best_history, state.history], axis=1), source)
        rows = xp.astype(source - beams + _first_rows(ops, rule, scores), history.dtype)
        history = written_at(ops, history, length - plan.prompt_length, rows, is_new)
    sequences = _take_beams(ops, xp.concat([state.best_tokens, state.tokens], axis=1), source)
    return state._replace(
        best_tokens=written_at(ops, sequences, length, merged(tokens, tokens), is_new),
        best_scores=best_scores,
        best_lengths=merged(state.best_lengths, xp.zeros_like(state.best_lengths) + (length + 1)),
        best_history=history,
        finished=merged(state.finished, ends),
    )


def accepts_finished(ops: Ops, rule: BeamRule, state: BeamState) -> Array:
    """Return bool `[batch, 1]`: which utterances can still get another finished hypothesis."""
    if rule.early_stopping is not True:
        return state.hopeful
    return state.hopeful & ~ops.xp.all(state.finished, axis=1, keepdims=True)


def _may_improve(ops: Ops, plan: Plan, rule: BeamRule, length: Length, running: Array, best: BeamState) -> Array:
    """Return bool `[batch, 1]`: whether the best running hypothesis may beat the worst finished one."""
    xp = ops.xp
    full = rule.early_stopping == "never" and rule.length_penalty > 0.0
    generated = (plan.max_length if full else length) - plan.prompt_length
    hope = running[:, :1] / (generated**rule.length_penalty)
    worst = xp.where(best.finished, xp.min(best.best_scores, axis=1, keepdims=True), EXCLUDED)
    return xp.any(hope > worst, axis=1, keepdims=True)


def _num_candidates(plan: Plan, vocab: int) -> int:
    return min(max(2, 1 + len(plan.eos)) * plan.num_beams, plan.num_beams * vocab)


def _take_beams(ops: Ops, x: Array, places: Array) -> Array:
    """Select beams: x `[batch, m, n]`, places `[batch, beams]` -> `[batch, beams, n]`."""
    places = ops.xp.broadcast_to(places[:, :, None], (*places.shape, x.shape[-1]))
    return ops.gather(x, places)


def _first_rows(ops: Ops, rule: BeamRule, scores: Array) -> Array:
    """Return the row of each utterance's first beam of the group, int `[batch, 1]`."""
    utterances = ops.xp.arange(scores.shape[0], device=ops.device(scores))
    return (utterances * rule.rows_per_utterance + rule.first_row)[:, None]
