"""Contrastive search and its driver in Python: likely tokens that do not repeat what the text says already.

Each step tries the `top_k` likeliest tokens and takes the one with the greatest

    (1 - penalty_alpha) * probability - penalty_alpha * similarity

where the similarity is the greatest cosine between the token's state and those of all tokens before it
(https://arxiv.org/abs/2202.06417). The decoder reads all candidates of a step at once, in the place of beams.
"""

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Ops
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import advance_rows, begin_rows
from dragoman.generation.run import Run

__all__ = ["choose", "directions", "search_contrastively"]


def directions(ops: Ops, states: Array) -> Array:
    """Return states `[..., width]` with length 1."""
    return states / ops.xp.sum(states * states, axis=-1, keepdims=True) ** 0.5


def choose(ops: Ops, alpha: float, log_probs: Array, candidates: Array, before: Array) -> Array:
    """Return which candidate of each utterance is both likely and new, int `[batch, 1]`.

    Args:
        ops: The array library.
        alpha: How much being new counts, from 0 to 1.
        log_probs: Of the candidates, `[batch, top_k]`.
        candidates: Where their states point, `[batch, top_k, width]`.
        before: Where the states of the text so far point, `[batch, tokens, width]`.
    """
    xp = ops.xp
    similarity = xp.max(candidates @ xp.permute_dims(before, (0, 2, 1)), axis=-1)
    return xp.argmax((1.0 - alpha) * xp.exp(log_probs) - alpha * similarity, axis=-1)[:, None]


def search_contrastively(run: Run, decoder: StepDecoder[State], prompt: Array, step: Step[State]) -> GenerationResult:
    """Run contrastive search from the first step on.

    Raises:
        GenerationError: If the decoder does not return its hidden states.
    """
    ops, xp, plan, alpha = run.ops, run.ops.xp, run.plan, run.options.penalty_alpha
    batch, count = prompt.shape[0], min(run.options.top_k, step.logits.shape[-1])
    assert alpha is not None
    state = begin_rows(ops, plan, prompt)
    decoder_state = decoder.expand(step.state, count)
    before = _directions(ops, step)  # [batch, tokens, width]
    raw = run.scores_from(step)
    run.tell(prompt)
    first_rows = (xp.arange(batch, device=ops.device(prompt)) * count)[:, None]
    while True:
        scores = run.scores_of(state.tokens, state.length, raw)
        run.record_scores(scores)
        log_probs, tokens = ops.top_k(ops.log_softmax(scores), count)
        step = decoder.step(xp.reshape(tokens, (-1,)), decoder_state)
        new = xp.reshape(_directions(ops, step)[:, -1], (batch, count, -1))
        choice = choose(ops, alpha, log_probs, new, before)
        new_tokens = ops.gather(tokens, choice)[:, 0]
        run.note(new_tokens, state)
        state = run.advanced(advance_rows(ops, plan, state, new_tokens))
        if run.is_over(state):
            return run.rows_result(state)
        rows = xp.reshape(choice + first_rows, (-1,))
        chosen = _only(ops, step, rows)
        before = xp.concat([before, _directions(ops, chosen)[:, -1:]], axis=1)
        decoder_state = decoder.select(step.state, xp.repeat(rows, count, axis=0))
        raw = run.scores_from(chosen)


def _directions(ops: Ops, step: Step[State]) -> Array:
    """Return where the states of the last layer point, `[rows, tokens read, width]`."""
    if step.decoder_hidden_states is None:
        raise GenerationError(
            "Contrastive search (`penalty_alpha`) compares the decoder's states, which this decoder does not return. "
            "Use another strategy, such as beam search with `no_repeat_ngram_size`."
        )
    return directions(ops, step.decoder_hidden_states[-1])


def _only(ops: Ops, step: Step[State], rows: Array) -> Step[State]:
    """Return the outputs of some rows of a step; its state stays as it is."""

    def picked(x: Array) -> Array:
        return None if x is None else ops.xp.take(x, rows, axis=0)

    def layers(values: tuple[Array, ...] | None) -> tuple[Array, ...] | None:
        return None if values is None else tuple(map(picked, values))

    return Step(
        logits=picked(step.logits),
        state=step.state,
        decoder_attentions=layers(step.decoder_attentions),
        cross_attentions=layers(step.cross_attentions),
        decoder_hidden_states=layers(step.decoder_hidden_states),
        bonus=picked(step.bonus),
    )
