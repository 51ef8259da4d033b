"""Greedy search and sampling: one sequence per utterance, or several independent samples."""

from dragoman.generation.arrays import Array, has_possible
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.noise import fold, sample_keys
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import advance_rows, begin_rows
from dragoman.generation.run import Run
from dragoman.generation.sampling import draw


def search_rows(run: Run, decoder: StepDecoder[State], prompt: Array, step: Step[State]) -> GenerationResult:
    """Run greedy search or sampling from the first step on."""
    ops, plan, copies = run.ops, run.plan, run.plan.num_samples
    keys = None if run.keys is None else sample_keys(ops, run.keys, copies)
    if copies > 1:
        prompt = ops.xp.repeat(prompt, copies, axis=0)
    state = begin_rows(ops, plan, prompt)
    decoder_state = decoder.expand(step.state, copies) if copies > 1 else step.state
    raw = run.scores_from(step, copies)
    run.stream(prompt)
    while True:
        scores = run.process(state.tokens, state.length, raw)
        run.record_scores(scores)
        chosen = ops.xp.argmax(scores, axis=-1) if keys is None else draw(ops, fold(ops, keys, state.length), scores)
        run.record_chosen(chosen, state)
        state = run.after_step(advance_rows(ops, plan, state, chosen, has_possible(ops, scores)))
        if run.is_over(state):
            return run.rows_result(state)
        step = decoder.step(state.tokens[:, state.length - 1], decoder_state)
        decoder_state, raw = step.state, run.scores_from(step)
