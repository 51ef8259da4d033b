"""What the decoder itself thought of the tokens that were chosen: one number a token, kept while the search runs.

The decoder's own log-probabilities are meant, before any processor, temperature or voice of shallow fusion changes
them: a boosted word does not look surer than it was. Scores of whole vocabularies are not kept.
"""

from typing import NamedTuple

from dragoman.generation.arrays import Array, Ops
from dragoman.generation.beams import Candidates

__all__ = ["TokenLogProbs"]


class _Offered(NamedTuple):
    """What a step of beam search could choose from, each `[batch, candidates]`: rows of the decoder, tokens, values."""

    rows: Array
    tokens: Array
    values: Array


class TokenLogProbs:
    """The record of one call of `generate`; the drivers tell it what they hear and choose."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._heard: Array = None
        self._chosen: list[Array] = []
        self._offered: list[list[_Offered]] = []

    def record(self, log_probs: Array) -> None:
        """Take the decoder's log-probabilities `[rows, vocab]` of the next token; a new step begins."""
        self._heard = log_probs
        self._offered.append([])

    def choose(self, tokens: Array, ended: Array) -> None:
        """Take the tokens int `[rows]` of a step without beams, and which texts had ended before, bool `[rows]`."""
        values = self._ops.gather(self._heard, tokens[:, None])[:, 0]
        self._chosen.append(self._ops.xp.where(ended, 0.0, values))

    def offer(self, candidates: Candidates, first_row: int) -> None:
        """Take the candidates of a step of a group of beams, the first of which is row `first_row` of its utterance."""
        xp, batch = self._ops.xp, candidates.tokens.shape[0]
        beams = self._heard.shape[0] // batch
        own = candidates.beams + first_row
        rows = own + xp.arange(batch, device=self._ops.device(own))[:, None] * beams
        vocab = self._heard.shape[1]
        values = self._ops.gather(xp.reshape(self._heard, (batch, beams * vocab)), own * vocab + candidates.tokens)
        self._offered[-1].append(_Offered(rows, candidates.tokens, values))

    def of_rows(self) -> Array:
        """Return those of the texts of greedy search or sampling, float32 `[rows, generated]`; 0 after the end."""
        return self._ops.xp.stack(self._chosen, axis=1)

    def of_hypotheses(self, tokens: Array, rows: Array) -> Array:
        """Return those of hypotheses, float32 `[hypotheses, generated]`; 0 after the end.

        Args:
            tokens: Their generated tokens int `[hypotheses, generated]`, those of an utterance together.
            rows: The decoder's row that each was chosen from, -1 after the end.
        """
        xp, generated = self._ops.xp, tokens.shape[1]
        steps = [
            _Offered(*(xp.concat(parts, axis=1) for parts in zip(*s, strict=True))) for s in self._offered[:generated]
        ]
        copies = tokens.shape[0] // steps[0].rows.shape[0]
        # [batch, candidates] of each step -> [hypotheses, generated, candidates]
        offered = _Offered(*(xp.repeat(xp.stack(parts, axis=1), copies, axis=0) for parts in zip(*steps, strict=True)))
        meant = (offered.rows == rows[:, :, None]) & (offered.tokens == tokens[:, :, None])
        return xp.sum(xp.where(meant, offered.values, 0.0), axis=-1)
