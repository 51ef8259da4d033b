"""The Python driver of the search, for every decoder that takes one step at a time: NumPy, PyTorch and ONNX Runtime.

The search itself is in `search.py`; what ends a text besides its end token, in `stopping.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Length, Ops, ops_of
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.noise import fold, sample_keys, utterance_keys
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan, plan_of
from dragoman.generation.processors import Processor, UserProcessor, build_processors
from dragoman.generation.result import GenerationResult
from dragoman.generation.sampling import build_filters, draw
from dragoman.generation.search import (
    BeamRule,
    BeamState,
    Candidates,
    advance_beams,
    advance_rows,
    begin_beams,
    begin_rows,
    best_candidates,
    drawn_candidates,
    is_any,
)
from dragoman.generation.stopping import StoppingCriterion, Stops, stops_of
from dragoman.generation.streamers import Streamer

__all__ = ["Step", "StepDecoder", "generate"]


def generate(
    decoder: StepDecoder[State],
    prompt: Array,
    options: GenerationConfig,
    *,
    capacity: int | None = None,
    seed: int | Sequence[int] = 0,
    processors: Sequence[UserProcessor] = (),
    prefix_allowed_tokens_fn: Callable[[int, Array], Sequence[int]] | None = None,
    criteria: Sequence[StoppingCriterion] = (),
    decode: Callable[[list[int]], str] | None = None,
    streamer: Streamer | None = None,
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
        criteria: The caller's own reasons to end a text, in Hugging Face's form.
        decode: Turns ids into text, for `stop_strings`.
        streamer: Is told the prompt and each new token of each utterance; without beams only.

    Raises:
        GenerationError: If the options are impossible, alone or for this prompt and decoder.
    """
    options.validate()
    if len(prompt.shape) != 2 or 0 in prompt.shape:
        raise GenerationError(
            f"The prompt must have the shape [batch, tokens] with at least one of each (the start token), but has "
            f"{tuple(prompt.shape)}."
        )
    if streamer is not None and (options.num_beams > 1 or options.num_return_sequences > 1):
        raise GenerationError(
            f"A streamer can follow one text of an utterance only, but `num_beams` is {options.num_beams} and "
            f"`num_return_sequences` is {options.num_return_sequences}: set both to 1, or leave the streamer out."
        )
    ops, plan = ops_of(prompt), plan_of(options, prompt.shape[1], capacity)
    keys = utterance_keys(ops, seed, prompt) if options.do_sample else None
    stops = stops_of(options, plan.prompt_length, criteria, decode)
    first = decoder.start(prompt)
    chain = build_processors(ops, options, plan, first.logits, processors, prefix_allowed_tokens_fn)
    chain += build_filters(ops, options, plan)
    if options.renormalize_logits:
        chain.append(lambda tokens, length, scores: ops.log_softmax(scores))
    run = _Run(ops, plan, options, chain, keys, stops, streamer)
    return (_beams if plan.num_beams > 1 else _rows)(run, decoder, prompt, first)


@dataclass(frozen=True)
class _Run:
    """What stays the same in a search, and the records that it fills."""

    ops: Ops
    plan: Plan
    options: GenerationConfig
    chain: list[Processor]
    keys: Array | None
    stops: Stops
    streamer: Streamer | None
    records: dict[str, list[Any]] = field(default_factory=dict)

    def scores_of(self, tokens: Array, length: Length, scores: Array) -> Array:
        """Return the scores after all processors, and record them where asked."""
        for processor in self.chain:
            scores = processor(tokens, length, scores)
        if self.options.return_dict_in_generate and self.options.output_scores:
            self.record("scores", scores)
        return scores

    def logits_of(self, step: Step[Any], copies: int = 1) -> Array:
        """Return the logits as float32 `[rows * copies, vocab]`; record all outputs of the step that were asked for."""
        xp, options = self.ops.xp, self.options

        def repeated(x: Array) -> Array:
            return x if copies == 1 else xp.repeat(x, copies, axis=0)

        logits = repeated(xp.astype(step.logits, xp.float32, copy=False))
        wanted = {
            "logits": options.output_logits,
            "decoder_attentions": options.output_attentions,
            "cross_attentions": options.output_attentions,
            "decoder_hidden_states": options.output_hidden_states,
        }
        for name in (name for name, on in wanted.items() if on and options.return_dict_in_generate):
            layers = getattr(step, name)
            self.record(name, logits if name == "logits" else layers and tuple(map(repeated, layers)))
        return logits

    def record(self, name: str, value: Any) -> None:
        self.records.setdefault(name, []).append(value)

    def is_over(self, length: int) -> bool:
        """Return whether every text must end at this length, at this time."""
        return length >= self.plan.max_length or self.stops.time_is_up()

    def may_end(self) -> bool:
        """Return whether a text can end by itself."""
        return bool(self.plan.eos) or self.stops.looks_at_texts()

    def tell(self, tokens: Array | None) -> None:
        """Tell the streamer new tokens, or the end."""
        if self.streamer is None:
            return
        if tokens is None:
            self.streamer.end()
        else:
            self.streamer.put(to_numpy(tokens))

    def stopped(self, state: BeamState, candidates: Candidates) -> Array | bool:
        """Return bool `[batch, candidates]`: which candidates end for another reason than their token or length."""
        if self.stops.time_is_up():
            return True
        if not self.stops.looks_at_texts():
            return False
        xp, (batch, count), length = self.ops.xp, candidates.tokens.shape, state.length
        beams = xp.broadcast_to(candidates.beams[:, :, None], (batch, count, length))
        texts = self.ops.gather(state.tokens[:, :, :length], beams)
        new = xp.astype(candidates.tokens, texts.dtype, copy=False)[:, :, None]
        texts = xp.reshape(xp.concat([texts, new], axis=2), (-1, length + 1))
        return xp.reshape(self.stops.ended(self.ops, texts, self.records.get("scores")), (batch, count))

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
    run.tell(prompt)
    while True:
        scores = run.scores_of(state.tokens, state.length, logits)
        chosen = ops.xp.argmax(scores, axis=-1) if keys is None else draw(ops, fold(ops, keys, state.length), scores)
        state = advance_rows(ops, plan, state, chosen)
        if run.stops.looks_at_texts():
            texts = state.tokens[:, : state.length]
            state = state._replace(ended=state.ended | run.stops.ended(ops, texts, run.records.get("scores")))
        chosen = state.tokens[:, state.length - 1]
        run.tell(chosen)
        if run.is_over(state.length) or (run.may_end() and bool(ops.xp.all(state.ended))):
            run.tell(None)
            return run.result(sequences=state.tokens[:, : state.length], ended=state.ended)
        step = decoder.step(chosen, decoder_state)
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
        stopped = run.stopped(state, candidates)
        state, parents, chosen = advance_beams(ops, plan, rule, state, candidates, stopped)
        if bool(state.done):
            return _best(run, state)
        if state.length > plan.prompt_length + 1:
            decoder_state = decoder.select(decoder_state, ops.xp.reshape(parents + first_rows, (-1,)))
        step = decoder.step(ops.xp.reshape(chosen, (-1,)), decoder_state)
        decoder_state, logits = step.state, run.logits_of(step)


def _best(run: _Run, state: BeamState) -> GenerationResult:
    """Take the best `num_return_sequences` finished hypotheses and crop them to the longest."""
    xp, plan, count = run.ops.xp, run.plan, run.plan.num_return_sequences

    def flat(x: Array) -> Array:
        return xp.reshape(x[:, :count], (-1, *x.shape[2:]))

    lengths = flat(state.best_lengths)
    longest = int(xp.max(lengths))
    sequences = flat(state.best_tokens)[:, :longest]
    last = run.ops.gather(sequences, lengths[:, None] - 1)[:, 0]
    # The limit or the clock cut off only those that were still running in the last step.
    ended = is_any(last, plan.eos) | (lengths < state.length)
    if run.stops.looks_at_texts() and longest == state.length:
        ended = ended | run.stops.ended(run.ops, sequences, run.records.get("scores"))
    history = state.best_history
    return run.result(
        sequences=sequences,
        ended=ended,
        sequences_scores=flat(state.best_scores),
        beam_indices=None if history is None else flat(history)[:, : longest - plan.prompt_length],
    )
