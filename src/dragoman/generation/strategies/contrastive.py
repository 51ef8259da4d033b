"""Contrastive search: likely tokens that do not repeat earlier content.

Each step tries the `top_k` most likely tokens and takes the one with the largest

    (1 - penalty_alpha) * probability - penalty_alpha * similarity

where the similarity is the largest cosine between the token's hidden state and those of all tokens before it
(https://arxiv.org/abs/2202.06417). The decoder reads all candidates of a step at once, as if they were beams.
"""

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Ops, has_possible
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import advance_rows, begin_rows
from dragoman.generation.run import Run


def directions(ops: Ops, states: Array) -> Array:
    """Return states `[..., width]` scaled to Euclidean length 1."""
    return states / ops.xp.sum(states * states, axis=-1, keepdims=True) ** 0.5


def choose(ops: Ops, alpha: float, log_probs: Array, candidates: Array, before: Array) -> Array:
    """Return the index of the best candidate of each utterance, int `[batch, 1]`.

    Args:
        ops: The array library.
        alpha: Weight of the similarity, from 0 to 1.
        log_probs: Of the candidates, `[batch, top_k]`.
        candidates: Directions of their hidden states, `[batch, top_k, width]`.
        before: Directions of the hidden states so far, `[batch, tokens, width]`.
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
    run.stream(prompt)
    first_rows = (xp.arange(batch, device=ops.device(prompt)) * count)[:, None]
    while True:
        scores = run.process(state.tokens, state.length, raw)
        run.record_scores(scores)
        log_probs, tokens = ops.top_k(ops.log_softmax(scores), count)
        step = decoder.step(xp.reshape(tokens, (-1,)), decoder_state)
        new = xp.reshape(_directions(ops, step)[:, -1], (batch, count, -1))
        choice = choose(ops, alpha, log_probs, new, before)
        new_tokens = ops.gather(tokens, choice)[:, 0]
        run.record_chosen(new_tokens, state)
        state = run.after_step(advance_rows(ops, plan, state, new_tokens, has_possible(ops, scores)))
        if run.is_over(state):
            return run.rows_result(state)
        rows = xp.reshape(choice + first_rows, (-1,))
        chosen = _rows_of(ops, step, rows)
        before = xp.concat([before, _directions(ops, chosen)[:, -1:]], axis=1)
        decoder_state = decoder.select(step.state, xp.repeat(rows, count, axis=0))
        raw = run.scores_from(chosen)


def _directions(ops: Ops, step: Step[State]) -> Array:
    """Return the directions of the last layer's hidden states, `[rows, tokens read, width]`."""
    if step.decoder_hidden_states is None:
        raise GenerationError(
            "Contrastive search (`penalty_alpha`) compares hidden states, which this decoder does not return. "
            "Use another strategy, such as beam search with `no_repeat_ngram_size`."
        )
    return directions(ops, step.decoder_hidden_states[-1])


def _rows_of(ops: Ops, step: Step[State], rows: Array) -> Step[State]:
    """Return the outputs of some rows of a step; its state is unchanged."""

    def selected(x: Array) -> Array:
        return None if x is None else ops.xp.take(x, rows, axis=0)

    def layers(values: tuple[Array, ...] | None) -> tuple[Array, ...] | None:
        return None if values is None else tuple(map(selected, values))

    return Step(
        logits=selected(step.logits),
        state=step.state,
        decoder_attentions=layers(step.decoder_attentions),
        cross_attentions=layers(step.cross_attentions),
        decoder_hidden_states=layers(step.decoder_hidden_states),
        bonus=selected(step.bonus),
    )
