"""Beam search and beam sampling, in one group of beams or in several (diverse beam search)."""

from dataclasses import replace

from dragoman.generation.arrays import Array, Ops, has_possible, is_any
from dragoman.generation.beams import (
    BeamRule,
    BeamState,
    accepts_finished,
    advance_beams,
    begin_beams,
    best_candidates,
    drawn_candidates,
)
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.noise import fold
from dragoman.generation.result import GenerationResult
from dragoman.generation.run import Run, raise_if_failed


def search_beams(run: Run, decoder: StepDecoder[State], prompt: Array, step: Step[State]) -> GenerationResult:
    """Run beam search from the first step on.

    In diverse beam search (https://arxiv.org/abs/1610.02424) the beams form groups, which choose one after the other in
    each step; `diversity_penalty` is subtracted from a token's score for each beam of an earlier group that chose it.
    """
    ops, beams = run.ops, run.plan.num_beams
    run, rules, states = begin(run, prompt)
    # The beams are equal at first, so the decoder's state needs no selection after the first step.
    decoder_state = decoder.expand(step.state, beams)
    log_probs = run.scores_from(step, beams, normalize=True)
    while True:
        states, rows, chosen, done = advance(run, rules, states, log_probs)
        if bool(done):
            return best(run, states)
        if states[0].length > run.plan.prompt_length + 1:
            decoder_state = decoder.select(decoder_state, ops.xp.reshape(rows, (-1,)))
        step = decoder.step(ops.xp.reshape(chosen, (-1,)), decoder_state)
        decoder_state, log_probs = step.state, run.scores_from(step, normalize=True)


def begin(run: Run, prompt: Array) -> tuple[Run, list[BeamRule], list[BeamState]]:
    """Return the run of one group, and each group's rule and state, for a prompt int `[batch, prompt_length]`."""
    beams, groups = run.plan.num_beams, run.options.num_beam_groups
    run = replace(run, plan=replace(run.plan, num_beams=beams // groups))
    rules = [_rule(run, group * run.plan.num_beams, beams) for group in range(groups)]
    return run, rules, [begin_beams(run.ops, run.plan, rule, prompt) for rule in rules]


def _rule(run: Run, first_row: int, beams: int) -> BeamRule:
    return BeamRule(
        length_penalty=run.options.length_penalty,
        early_stopping=run.options.early_stopping,
        keep_history=run.options.return_dict_in_generate or run.token_log_probs is not None,
        first_row=first_row,
        rows_per_utterance=beams,
    )


def advance(
    run: Run, rules: list[BeamRule], states: list[BeamState], log_probs: Array
) -> tuple[list[BeamState], Array, Array, Array]:
    """Advance each group in turn by one token.

    Returns:
        The next states; the rows that the beams continue and their new tokens, int `[batch, groups * beams]`; whether
        all groups are done.
    """
    ops, plan, xp = run.ops, run.plan, run.ops.xp
    batch, beams, vocab = states[0].scores.shape[0], plan.num_beams, log_probs.shape[1]
    by_group = xp.reshape(log_probs, (batch, len(rules), beams, vocab))
    processed, rows, chosen, active, advanced = [], list[Array](), list[Array](), list[Array](), list[BeamState]()
    for group, (rule, state) in enumerate(zip(rules, states, strict=True)):
        scores = xp.reshape(by_group[:, group], (batch * beams, vocab))
        if chosen:
            scores = scores - run.options.diversity_penalty * _counts(ops, chosen, active, scores)
        tokens = xp.reshape(state.tokens, (batch * beams, plan.max_length))
        scores = run.process(tokens, state.length, scores)
        if len(rules) == 1:
            run.record_scores(scores)
        processed.append(xp.reshape(scores, (batch, beams, vocab)))
        if run.keys is None:
            candidates = best_candidates(ops, plan, state.scores, scores)
        else:
            candidates = drawn_candidates(ops, plan, state.scores, scores, fold(ops, run.keys, state.length))
        if run.token_log_probs is not None:
            run.token_log_probs.add_candidates(candidates, rule.first_row)
        active.append(accepts_finished(ops, rule, state))
        possible = has_possible(ops, xp.reshape(scores, (batch, -1)))
        stopped = run.stopped(state, candidates)
        state, parents, new = advance_beams(ops, plan, rule, state, candidates, possible, stopped)
        advanced.append(state)
        rows.append(parents)
        chosen.append(new)
    if len(rules) > 1:
        run.record_scores(xp.reshape(xp.concat(processed, axis=1), log_probs.shape))
    done = advanced[0].done
    for state in advanced[1:]:
        done = done & state.done
    return advanced, xp.concat(rows, axis=1), xp.concat(chosen, axis=1), done


def _counts(ops: Ops, chosen: list[Array], active: list[Array], scores: Array) -> Array:
    """Count how many beams of earlier groups chose each token, float32 `[batch * beams, vocab]`.

    Args:
        ops: The array library.
        chosen: For each earlier group: the new tokens of its beams, int `[batch, beams]`.
        active: For each earlier group: the utterances for which it still searches and counts, bool `[batch, 1]`.
        scores: Gives the shape.
    """
    xp, (rows, vocab) = ops.xp, scores.shape
    counted = [xp.broadcast_to(xp.astype(a, scores.dtype), c.shape) for a, c in zip(active, chosen, strict=True)]
    counts = ops.scatter_add(xp.concat(chosen, axis=1), xp.concat(counted, axis=1), vocab)
    return xp.repeat(counts, rows // counts.shape[0], axis=0)


def best(run: Run, states: list[BeamState], *, cropped: bool = True) -> GenerationResult:
    """Return the best `num_return_sequences` finished hypotheses of all groups.

    They are `cropped` to the longest of them, and failures are raised, unless values cannot be read.
    """
    ops, xp, plan = run.ops, run.ops.xp, run.plan
    for state in states if cropped else ():
        raise_if_failed(state.failed[:, 0])

    def joined(values: list[Array]) -> Array:
        return values[0] if len(values) == 1 else xp.concat(values, axis=1)

    scores, order = ops.top_k(joined([state.best_scores for state in states]), plan.num_return_sequences)

    def selected(values: list[Array]) -> Array:
        x = joined(values)  # [batch, hypotheses, ...] -> [batch * num_return_sequences, ...]
        places = order if x.ndim == 2 else xp.broadcast_to(order[:, :, None], (*order.shape, x.shape[2]))
        return xp.reshape(ops.gather(x, places), (-1, *x.shape[2:]))

    lengths = selected([state.best_lengths for state in states])
    longest = int(xp.max(lengths)) if cropped else plan.max_length
    sequences = selected([state.best_tokens for state in states])[:, :longest]
    last = ops.gather(sequences, lengths[:, None] - 1)[:, 0]
    # The maximum length or time cut off only hypotheses that were running in the last step.
    ended = is_any(last, plan.eos) | (lengths < states[0].length)
    if run.stops.reads_sequences and longest == states[0].length:
        ended = ended | run.stops.ended(ops, sequences, run.records.get("scores"))
    histories = [state.best_history for state in states if state.best_history is not None]
    generated = sequences[:, plan.prompt_length :]
    rows = selected(histories)[:, : generated.shape[1]] if histories else None
    return run.result(
        sequences=sequences,
        ended=ended,
        sequences_scores=xp.reshape(scores, (-1,)),
        beam_indices=rows,
        token_log_probs=None if run.token_log_probs is None else run.token_log_probs.of_hypotheses(generated, rows),
    )
