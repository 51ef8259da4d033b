"""`Run`: settings, records, stopping and streaming, shared by the drivers of the strategies."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
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


def raise_if_failed(failed: Array) -> None:
    """Raise an error if no token was possible for some rows, where bool `[rows]` is true.

    Raises:
        GenerationError: If any is.
    """
    rows = np.flatnonzero(to_numpy(failed)).tolist()
    if rows:
        raise GenerationError(
            f"No token could be chosen in {'row' if len(rows) == 1 else 'rows'} {str(rows)[1:-1]:.80}: every token was "
            "forbidden, or scores are NaN. Check the options that forbid tokens (`suppress_tokens`, `bad_words_ids`, "
            "`prefix_allowed_tokens_fn`, logits processors); if there are none, the model overflows: use float32 or "
            "bfloat16 weights, and check the training."
        )


@dataclass(frozen=True)
class Run:
    """One call of `generate`: the settings, which do not change, and the records, which grow.

    Attributes:
        ops: The array library.
        plan: Lengths and ids.
        options: The options of the call.
        chain: All processors and filters, in order.
        keys: Random keys, int32 `[batch]`; `None` without sampling.
        stops: Stopping conditions besides end tokens and length.
        streamer: Receives the prompt and each new token.
        token_log_probs: Collects the decoder's log-probabilities of the chosen tokens.
        records: Outputs requested for every step, by name.
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

    def scores_from(self, step: Step[Any], copies: int = 1, normalize: bool = False) -> Array:
        """Return the scores of the next token before processing, float32 `[rows * copies, vocab]`.

        Records the outputs of the step that were asked for.

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
            self.token_log_probs.begin_step(scores if normalize else ops.log_softmax(logits))
        return scores if step.bonus is None else scores + repeated(step.bonus)

    def process(self, tokens: Array, length: Length, scores: Array) -> Array:
        """Return the scores after all processors and filters."""
        for processor in self.chain:
            scores = processor(tokens, length, scores)
        return scores

    def record_scores(self, scores: Array) -> None:
        """Record the processed scores `[rows, vocab]` of a step if they were asked for."""
        if self.options.return_dict_in_generate and self.options.output_scores:
            self._record("scores", scores)

    def _record(self, name: str, value: Any) -> None:
        self.records.setdefault(name, []).append(value)

    def record_chosen(self, tokens: Array, state: RowState) -> None:
        """Record the log-probabilities of the tokens int `[rows]` chosen in a step if they were asked for."""
        if self.token_log_probs is not None:
            self.token_log_probs.add_chosen(tokens, state.ended)

    def stream(self, tokens: Array) -> None:
        """Pass the prompt, or the new tokens of a step, to the streamer."""
        if self.streamer is not None:
            self.streamer.put(to_numpy(tokens))

    def after_step(self, state: RowState) -> RowState:
        """Stream the new tokens; return `state` with sequences marked as ended that meet a stopping condition."""
        if self.stops.reads_sequences:
            sequences = state.tokens[:, : state.length]
            ended = self.stops.ended(self.ops, sequences, self.records.get("scores"))
            state = state._replace(ended=state.ended | ended)
        self.stream(state.tokens[:, state.length - 1])
        return state

    def is_over(self, state: RowState) -> bool:
        """Return whether all sequences have ended, or must; then the streamer is told so."""
        over = state.length >= self.plan.max_length or self.stops.time_is_up()
        if not over and (self.plan.eos or self.stops.reads_sequences):
            over = bool(self.ops.xp.all(state.ended))
        if over and self.streamer is not None:
            self.streamer.end()
        return over

    def stopped(self, state: BeamState, candidates: Candidates) -> Array | bool:
        """Return bool `[batch, candidates]`: which candidates end for another reason than their token or length."""
        if self.stops.time_is_up():
            return True
        if not self.stops.reads_sequences:
            return False
        xp, (batch, count), length = self.ops.xp, candidates.tokens.shape, state.length
        beams = xp.broadcast_to(candidates.beams[:, :, None], (batch, count, length))
        sequences = self.ops.gather(state.tokens[:, :, :length], beams)
        new = xp.astype(candidates.tokens, sequences.dtype, copy=False)[:, :, None]
        sequences = xp.reshape(xp.concat([sequences, new], axis=2), (-1, length + 1))
        return xp.reshape(self.stops.ended(self.ops, sequences, self.records.get("scores")), (batch, count))

    def rows_result(self, state: RowState) -> GenerationResult:
        """Return the result of a search without beams.

        Raises:
            GenerationError: If no token was possible at some step.
        """
        raise_if_failed(state.failed)
        return self.result(
            sequences=state.tokens[:, : state.length],
            ended=state.ended,
            token_log_probs=None if self.token_log_probs is None else self.token_log_probs.of_rows(),
        )

    def result(self, **found: Array) -> GenerationResult:
        """Return the result with all records."""
        return GenerationResult(**found, **{name: tuple(values) for name, values in self.records.items()})
