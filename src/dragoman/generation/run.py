"""What the drivers of the search share: records of what was asked for, reasons to end, news for the streamer."""

from dataclasses import dataclass, field
from typing import Any

from dragoman.batch import to_numpy
from dragoman.generation.arrays import Array, Length, Ops
from dragoman.generation.beams import BeamState, Candidates
from dragoman.generation.decoder import Step
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.generation.processors import Processor
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import RowState
from dragoman.generation.stopping import Stops
from dragoman.generation.streamers import Streamer
from dragoman.generation.token_log_probs import TokenLogProbs

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """What stays the same in one call of `generate`, and the records that it fills.

    Attributes:
        ops: The array library.
        plan: Lengths and ids.
        options: What the user asked for.
        chain: All processors, in order.
        keys: Random keys, one for each utterance; `None` without sampling.
        stops: What ends texts besides their end tokens and the limit of their length.
        streamer: Who hears of new tokens.
        token_log_probs: The decoder's own log-probabilities of chosen tokens, if they were asked for.
        records: What was asked for of every step, by name.
    """

    ops: Ops
    plan: Plan
    options: GenerationConfig
    chain: list[Processor]
    keys: Array | None
    stops: Stops
    streamer: Streamer | None
    token_log_probs: TokenLogProbs | None = None
    records: dict[str, list[Any]] = field(default_factory=dict)

    def scores_of(self, tokens: Array, length: Length, scores: Array) -> Array:
        """Return the scores after all processors."""
        for processor in self.chain:
            scores = processor(tokens, length, scores)
        return scores

    def record_scores(self, scores: Array) -> None:
        """Record the scores `[rows, vocab]` of a step, if they were asked for."""
        if self.options.return_dict_in_generate and self.options.output_scores:
            self._record("scores", scores)

    def scores_from(self, step: Step[Any], copies: int = 1, normalize: bool = False) -> Array:
        """Return the scores of the next token, float32 `[rows * copies, vocab]`; record what was asked for of the step.

        Args:
            step: The decoder's outputs.
            copies: How often each row is repeated.
            normalize: Return log-probabilities instead of logits.
        """
        ops, xp, options = self.ops, self.ops.xp, self.options

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
            self._record(name, logits if name == "logits" else layers and tuple(map(repeated, layers)))
        scores = ops.log_softmax(logits) if normalize else logits
        if self.token_log_probs is not None:
            self.token_log_probs.record(scores if normalize else ops.log_softmax(logits))
        return scores if step.bonus is None else scores + repeated(step.bonus)

    def _record(self, name: str, value: Any) -> None:
        self.records.setdefault(name, []).append(value)

    def advanced(self, state: RowState) -> RowState:
        """Return `state` after a step, with the texts marked that end for another reason than their token; tell it."""
        if self.stops.looks_at_texts():
            texts = state.tokens[:, : state.length]
            state = state._replace(ended=state.ended | self.stops.ended(self.ops, texts, self.records.get("scores")))
        self.tell(state.tokens[:, state.length - 1])
        return state

    def note(self, chosen: Array, state: RowState) -> None:
        """Record the log-probabilities of the `chosen` tokens int `[rows]` of a step, if they were asked for."""
        if self.token_log_probs is not None:
            self.token_log_probs.choose(chosen, state.ended)

    def is_over(self, state: RowState) -> bool:
        """Return whether all texts have ended, or must; then tell it."""
        over = state.length >= self.plan.max_length or self.stops.time_is_up()
        if not over and (self.plan.eos or self.stops.looks_at_texts()):
            over = bool(self.ops.xp.all(state.ended))
        if over:
            self.tell(None)
        return over

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

    def rows_result(self, state: RowState) -> GenerationResult:
        """Return the result of a search without beams."""
        return self.result(
            sequences=state.tokens[:, : state.length],
            ended=state.ended,
            token_log_probs=None if self.token_log_probs is None else self.token_log_probs.of_rows(),
        )

    def result(self, **found: Array) -> GenerationResult:
        """Return the result, with all records."""
        return GenerationResult(**found, **{name: tuple(values) for name, values in self.records.items()})
