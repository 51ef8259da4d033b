"""The Python driver of the search, for every decoder that takes one step at a time: NumPy, PyTorch and ONNX Runtime.

A decoder is a `StepDecoder`: it holds weights and the encoded speech; everything that changes from step to step is its
`State`, a value that it returns and gets back. The search itself is in `search.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Length, Ops, ops_of
from dragoman.generation.noise import fold, sample_keys, utterance_keys
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan, plan_of
from dragoman.generation.processors import Processor, UserProcessor, build_processors
from dragoman.generation.result import GenerationResult
from dragoman.generation.sampling import build_filters, draw
from dragoman.generation.search import (
    BeamRule,
    advance_beams,
    advance_rows,
    begin_beams,
    begin_rows,
    best_candidates,
    drawn_candidates,
)

__all__ = ["Step", "StepDecoder", "generate"]

State = TypeVar("State")


class Step(NamedTuple, Generic[State]):
    """What a decoder returns.

    Attributes:
        logits: Scores of the next token, `[rows, vocab]`, of any floating type.
        state: To be handed back with the next tokens.
        decoder_attentions, cross_attentions, decoder_hidden_states: Where they were asked for when the decoder was
        made:
            one array for each layer.
    """

    logits: Array
    state: State
    decoder_attentions: Any = None
    cross_attentions: Any = None
    decoder_hidden_states: Any = None


class StepDecoder(Protocol[State]):
    """A decoder that generates one token at a time, the encoded speech already inside."""

    def start(self, prompt: Array) -> Step[State]:
        """Read the prompt int `[batch, prompt_length]`, one row for each utterance."""
        ...

    def expand(self, state: State, copies: int) -> State:
        """Repeat each row `copies` times (0, 0, …, 1, 1, …); what depends on the utterance alone may stay shared."""
        ...

    def step(self, tokens: Array, state: State) -> Step[State]:
        """Read one more token of each row, int `[rows]`."""
        ...

    def select(self, state: State, rows: Array) -> State:
        """Replace row i by row `rows[i]`, int `[rows]`, which always belongs to the same utterance."""
        ...


def generate(
    decoder: StepDecoder[State],
    prompt: Array,
    options: GenerationConfig,
    *,
    capacity: int | None = None,
    seed: int | Sequence[int] = 0,
    processors: Sequence[UserProcessor] = (),
    prefix_allowed_tokens_fn: Callable[[int, Array], Sequence[int]] | None = None,
) -> GenerationResult:
    """Generate texts for a batch of utterances.

    Args:
        decoder: Holds the encoded speech of the batch.
        prompt: int `[batch, prompt_length]`, beginning with the start token; its library does the search.
        options: The strategy: greedy search, sampling, beam search or beam sampling.
        capacity: The greatest number of tokens that the decoder can take; the length when `options` set none.
        seed: For sampling. A number for the batch, or one for each utterance, which then samples the same texts in any
            batch and any place of it.
        processors: The caller's own, in Hugging Face's form.
        prefix_allowed_tokens_fn: `f(utterance, tokens)` returns the ids that may come next.

    Raises:
        GenerationError: If the options are impossible, alone or for this prompt and decoder.
    """
    options.validate()
    if len(prompt.shape) != 2 or 0 in prompt.shape:
        raise GenerationError(
            f"The prompt must have the shape [batch, tokens] with at least one of each (the start token), but has "
            f"{tuple(prompt.shape)}."
        )
    ops, plan = ops_of(prompt), plan_of(options, prompt.shape[1], capacity)
    first = decoder.start(prompt)
    logits = ops.xp.astype(first.logits, ops.xp.float32, copy=False)
    chain = build_processors(ops, options, plan, logits, processors, prefix_allowed_tokens_fn)
    chain += build_filters(ops, options, plan)
    if options.renormalize_logits:
        chain.append(lambda tokens, length, scores: ops.log_softmax(scores))
    run = _Run(ops, plan, options, chain, utterance_keys(ops, seed, prompt) if options.do_sample else None)
    return (_beams if plan.num_beams > 1 else _rows)(run, decoder, prompt, first)


@dataclass(frozen=True)
class _Run:
    """What stays the same in a search, and the records that it fills."""

    ops: Ops
    plan: Plan
    options: GenerationConfig
    chain: list[Processor]
    keys: Array | None
    records: dict[str, list[Any]] = field(default_factory=dict)

    def scores_of(self, tokens: Array, length: Length, scores: Array) -> Array:
        for processor in self.chain:
            scores = processor(tokens, length, scores)
        if self.options.return_dict_in_generate and self.options.output_scores:
            self.record("scores", scores)
        return scores

    def logits_of(self, step: Step[Any], copies: int = 1) -> Array:
        """Return the logits as float32 `[rows * copies, vocab]`, and record them and the attentions where asked."""
        if self.options.return_dict_in_generate:
            if self.options.output_attentions:
                self.record("decoder_attentions", step.decoder_attentions)
                self.record("cross_attentions", step.cross_attentions)
            if self.options.output_hidden_states:
                self.record("decoder_hidden_states", step.decoder_hidden_states)
        logits = self.ops.xp.astype(step.logits, self.ops.xp.float32, copy=False)
        logits = logits if copies == 1 else self.ops.xp.repeat(logits, copies, axis=0)
        if self.options.return_dict_in_generate and self.options.output_logits:
            self.record("logits", logits)
        return logits

    def record(self, name: str, value: Any) -> None:
        self.records.setdefault(name, []).append(value)

    def result(self, **found: Array) -> GenerationResult:
        return GenerationResult(**found, **{name: tuple(values) for name, values in self.records.items()})


def _rows(run: _Run, decoder: StepDecoder[State], prompt: Array, step: Step[State]) -> GenerationResult:
    """Greedy search and sampling."""
    ops, plan, copies = run.ops, run.plan, run.plan.num_samples
    keys = None if run.keys is None else sample_keys(ops, run.keys, copies)
    if copies > 1:
        prompt = ops.xp.repeat(prompt, copies, axis=0)
    state = begin_rows(ops, plan, prompt)
    decoder_state = decoder.expand(step.state, copies) if copies > 1 else step.state
    logits = run.logits_of(step, copies)
    while True:
        scores = run.scores_of(state.tokens, state.length, logits)
        chosen = ops.xp.argmax(scores, axis=-1) if keys is None else draw(ops, fold(ops, keys, state.length), scores)
        state = advance_rows(ops, plan, state, chosen)
        if state.length >= plan.max_length or (plan.eos and bool(ops.xp.all(state.ended))):
            return run.result(sequences=state.tokens[:, : state.length], ended=state.ended)
        step = decoder.step(state.tokens[:, state.length - 1], decoder_state)
        decoder_state, logits = step.state, run.logits_of(step)


def _beams(run: _Run, decoder: StepDecoder[State], prompt: Array, step: Step[State]) -> GenerationResult:
    """Beam search and beam sampling."""
    ops, plan, options = run.ops, run.plan, run.options
    batch, beams = prompt.shape[0], plan.num_beams
    rule = BeamRule(
        length_penalty=options.length_penalty,
        early_stopping=options.early_stopping,
        keep_history=options.return_dict_in_generate,
    )
    first_rows = (ops.xp.arange(batch, device=ops.device(prompt)) * beams)[:, None]
    state = begin_beams(ops, plan, rule, prompt)
    # The beams are equal at first, so that choosing among them changes nothing in the decoder's state.
    decoder_state = decoder.expand(step.state, beams)
    logits = run.logits_of(step, beams)
    while True:
        tokens = ops.xp.reshape(state.tokens, (batch * beams, plan.max_length))
        log_probs = run.scores_of(tokens, state.length, ops.log_softmax(logits))
        if run.keys is None:
            candidates = best_candidates(ops, plan, state.scores, log_probs)
        else:
            candidates = drawn_candidates(ops, plan, state.scores, log_probs, fold(ops, run.keys, state.length))
        state, parents, chosen = advance_beams(ops, plan, rule, state, candidates)
        if bool(state.done):
            return _best(run, state)
        if state.length > plan.prompt_length + 1:
            decoder_state = decoder.select(decoder_state, ops.xp.reshape(parents + first_rows, (-1,)))
        step = decoder.step(ops.xp.reshape(chosen, (-1,)), decoder_state)
        decoder_state, logits = step.state, run.logits_of(step)


def _best(run: _Run, state: Any) -> GenerationResult:
    """Take the best `num_return_sequences` finished hypotheses and crop them to the longest."""
    xp, plan, count = run.ops.xp, run.plan, run.plan.num_return_sequences

    def flat(x: Array) -> Array:
        return xp.reshape(x[:, :count], (-1, *x.shape[2:]))

    lengths = flat(state.best_lengths)
    longest = int(xp.max(lengths))
    sequences = flat(state.best_tokens)[:, :longest]
    last = xp.take_along_axis(sequences, lengths[:, None] - 1, axis=1)[:, 0]
    ended = xp.zeros_like(last, dtype=xp.bool)
    for one in plan.eos:
        ended = ended | (last == one)
    history = state.best_history
    return run.result(
        sequences=sequences,
        ended=ended,
        sequences_scores=flat(state.best_scores),
        beam_indices=None if history is None else flat(history)[:, : longest - plan.prompt_length],
    )
