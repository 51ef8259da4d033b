"""The decoder's own log-probabilities of the chosen tokens, one number per token, collected during the search.

They are taken before any processor, temperature or scorer changes them, so a boosted word does not look more certain
than it was. Scores over the whole vocabulary are not kept.
"""

from typing import NamedTuple

from dragoman.generation.arrays import Array, Ops
from dragoman.generation.beams import Candidates


class _Offered(NamedTuple):
    """The candidates of one step of beam search, each `[batch, candidates]`: the decoder's rows, tokens, values."""

    rows: Array
    tokens: Array
    values: Array


class TokenLogProbs:
    """Collects the log-probabilities in one call of `generate`."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._log_probs: Array = None
        self._chosen: list[Array] = []
        self._offered: list[list[_Offered]] = []

    def begin_step(self, log_probs: Array) -> None:
        """Take the decoder's log-probabilities of the next token, `[rows, vocab]`."""
        self._log_probs = log_probs
        self._offered.append([])

    def add_chosen(self, tokens: Array, ended: Array) -> None:
        """Take the tokens int `[rows]` of a step without beams; `ended` bool `[rows]` as it was before the step."""
        values = self._ops.gather(self._log_probs, tokens[:, None])[:, 0]
        self._chosen.append(self._ops.xp.where(ended, 0.0, values))

    def add_candidates(self, candidates: Candidates, first_row: int) -> None:
        """Take the candidates of a group of beams; `first_row` is its first beam among those of the utterance."""
        xp, batch = self._ops.xp, candidates.tokens.shape[0]
        beams = self._log_probs.shape[0] // batch
        own = candidates.beams + first_row
        rows = own + xp.arange(batch, device=self._ops.device(own))[:, None] * beams
        vocab = self._log_probs.shape[1]
        by_utterance = xp.reshape(self._log_probs, (batch, beams * vocab))
        values = self._ops.gather(by_utterance, own * vocab + candidates.tokens)
        self._offered[-1].append(_Offered(rows, candidates.tokens, values))

    def of_rows(self) -> Array:
        """Return those of greedy search or sampling, float32 `[rows, generated]`; 0 after the end."""
        return self._ops.xp.stack(self._chosen, axis=1)

    def of_hypotheses(self, tokens: Array, rows: Array) -> Array:
        """Return those of beam search, float32 `[hypotheses, generated]`; 0 after the end.

        Args:
            tokens: The generated tokens int `[hypotheses, generated]`, grouped by utterance.
            rows: The decoder's row that each was chosen from, -1 after the end.
        """
        xp, generated = self._ops.xp, tokens.shape[1]
        steps = [
            _Offered(*(xp.concat(parts, axis=1) for parts in zip(*s, strict=True))) for s in self._offered[:generated]
        ]
        copies = tokens.shape[0] // steps[0].rows.shape[0]
        # [batch, candidates] of each step -> [hypotheses, generated, candidates]
        offered = _Offered(*(xp.repeat(xp.stack(parts, axis=1), copies, axis=0) for parts in zip(*steps, strict=True)))
        matches = (offered.rows == rows[:, :, None]) & (offered.tokens == tokens[:, :, None])
        return xp.sum(xp.where(matches, offered.values, 0.0), axis=-1)
