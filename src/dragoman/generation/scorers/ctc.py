"""Joint CTC/attention decoding: CTC's log-probability that a transcript begins with a hypothesis, for shallow fusion.

Attention may skip or repeat speech; CTC goes through it once, from the first frame to the last. Reference: Watanabe et
al., Hybrid CTC/attention architecture for end-to-end speech recognition, https://doi.org/10.1109/JSTSP.2017.2763455,
section IV-A, algorithm 2.

Legend: a path gives each frame a token or the blank. Its prefix is what remains when equal neighbours are merged and
blanks dropped.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dragoman.api.outputs import EncoderOutput
from dragoman.batch import to_numpy
from dragoman.checkpoint.ctc_head import CtcHead
from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, ops_of
from dragoman.generation.decoder import Step
from dragoman.generation.scorers.fusion import Scorer

_RARE = 1e-6  # a token that is less probable in every frame counts as this probable in all
_IMPOSSIBLE = -1e10
_LOWEST = -100.0  # of a step, so that what CTC never saw stays possible

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def ctc_scorers(
    head: CtcHead | None, weight: float, encoded: EncoderOutput | None, ends: Sequence[int]
) -> list[Scorer]:
    """Return the scorer of CTC, none with a weight of 0.

    Args:
        head: The model's.
        weight: Share of CTC in the joint score, from 0 to below 1.
        encoded: The encoder's output, of any framework.
        ends: The tokens that end a transcript.

    Raises:
        GenerationError: If the model has no head.
    """
    if not weight:
        return []
    if head is None:
        raise GenerationError(
            f"`ctc_weight` is {weight}, but the model has no head for CTC. Train one (`dragoman train` with "
            "`training.ctc_weight`), or leave `ctc_weight` out."
        )
    assert encoded is not None
    ops = ops_of(encoded.last_hidden_state)
    states = to_numpy(ops.xp.astype(encoded.last_hidden_state, ops.xp.float32, copy=False))
    lengths = [states.shape[1]] * len(states) if encoded.lengths is None else to_numpy(encoded.lengths).tolist()
    frames = [_Frames(head.log_probs(own[:length])) for own, length in zip(states, lengths, strict=True)]
    return [Scorer(model=CtcPrefixes(frames, ends), weight=weight / (1 - weight))]


class _Frames:
    """The log-probabilities of an utterance's frames, without columns for tokens that are rare in all of them.

    Args:
        log_probs: Of all tokens and the blank, `[frames, vocab + 1]`; changed in place.
    """

    def __init__(self, log_probs: np.ndarray[Any, Any]) -> None:
        likely = log_probs[:, :-1].max(axis=0) >= np.log(_RARE)
        self.blank = np.maximum(log_probs[:, -1], _LOWEST, dtype=np.float64)
        rare = np.full((len(log_probs), 1), np.log(_RARE))
        self.log_probs = np.hstack([np.maximum(log_probs[:, :-1][:, likely], _LOWEST), rare])
        self.probs = np.exp(self.log_probs)
        self.column = np.where(likely, np.cumsum(likely) - 1, likely.sum())  # of each token


class _State(NamedTuple):
    """One row a hypothesis.

    Attributes:
        utterance: Its number, int `[rows]`.
        last: The last token, int `[rows]`; -1 before the first.
        paths: Log-probabilities that the paths of the first 0, 1, … frames have the hypothesis as prefix and end in its
            last token, or in a blank; `[rows, 2, frames + 1]`.
        score: Log-probability that a transcript begins with it, `[rows]`.
    """

    utterance: np.ndarray[Any, Any]
    last: np.ndarray[Any, Any]
    paths: Numbers
    score: Numbers


class CtcPrefixes:
    """A `StepDecoder` for a `Scorer`: what a token changes in CTC's log-probability of the prefix.

    The scores of a finished hypothesis add up to CTC's log-probability of it as the whole transcript.

    Args:
        frames: Of each utterance.
        ends: The tokens that end a transcript.
    """

    def __init__(self, frames: Sequence[_Frames], ends: Sequence[int]) -> None:
        self._frames, self._ends = frames, list(ends)

    def start(self, prompt: Array) -> Step[_State]:
        """Read the tokens of the prompt after the start token, one row an utterance."""
        tokens, count = to_numpy(prompt), len(self._frames)
        paths = np.full((count, 2, 1 + max(len(own.blank) for own in self._frames)), _IMPOSSIBLE)
        for row, own in enumerate(self._frames):
            paths[row, 1, : 1 + len(own.blank)] = np.concatenate([[0.0], np.cumsum(own.blank)])
        state = _State(np.arange(count), np.full(count, -1), paths, np.zeros(count))
        for column in tokens[:, 1:].T:
            state = self._read(column, state)
        return self._step(state)

    def expand(self, state: _State, copies: int) -> _State:
        """Repeat each row `copies` times."""
        return _State(*(np.repeat(array, copies, axis=0) for array in state))

    def step(self, tokens: Array, state: _State) -> Step[_State]:
        """Read the next token of each row."""
        return self._step(self._read(to_numpy(tokens), state))

    def select(self, state: _State, rows: Array) -> _State:
        """Replace row i by row `rows[i]`."""
        chosen = to_numpy(rows)
        return _State(*(array[chosen] for array in state))

    def _read(self, tokens: np.ndarray[Any, Any], state: _State) -> _State:
        paths, score = np.full_like(state.paths, _IMPOSSIBLE), np.empty_like(state.score)
        for number, own in enumerate(self._frames):
            (rows,) = np.nonzero(state.utterance == number)
            end = 1 + len(own.blank)
            before, blank = state.paths[rows, :, : end - 1], own.blank
            token = own.log_probs[:, own.column[tokens[rows]]].T
            new = np.where(
                (tokens[rows] == state.last[rows])[:, None], before[:, 1], np.logaddexp(before[:, 0], before[:, 1])
            )  # paths in which the next frame may begin the token
            score[rows] = np.logaddexp.reduce(new + token, axis=1)
            paths[rows, 0, 1:end] = in_token = _filtered(new, token)
            left = np.concatenate([np.full((len(rows), 1), _IMPOSSIBLE), in_token[:, :-1]], axis=1)
            paths[rows, 1, 1:end] = _filtered(left, np.broadcast_to(blank, left.shape))
        return _State(state.utterance, tokens, paths, score)

    def _step(self, state: _State) -> Step[_State]:
        scores = np.empty((len(state.last), len(self._frames[0].column)), np.float32)
        for number, own in enumerate(self._frames):
            (rows,) = np.nonzero(state.utterance == number)
            ends_in_token, ends_in_blank = state.paths[rows, 0], state.paths[rows, 1]
            end = len(own.blank)
            either = np.logaddexp(ends_in_token, ends_in_blank)
            found = _log_product(either[:, :end], own.probs)[:, own.column]
            same = np.where(state.last[rows] < 0, 0, state.last[rows])  # a token again needs a blank before it
            again = np.logaddexp.reduce(ends_in_blank[:, :end] + own.log_probs[:, own.column[same]].T, axis=1)
            begun = state.last[rows] >= 0
            found[begun, same[begun]] = again[begun]
            found[:, self._ends] = either[:, end, None]
            scores[rows] = np.maximum(found - state.score[rows, None], _LOWEST)
        return Step(scores, state)


def _filtered(new: Numbers, factor: Numbers) -> Numbers:
    """Return x with x[t] = (x[t - 1] + new[t]) · factor[t] along the last axis; all numbers are logarithms."""
    total = np.cumsum(factor, axis=1)
    filtered: Numbers = np.add(total, np.logaddexp.accumulate(new - (total - factor), axis=1))
    return filtered


def _log_product(rows: Numbers, columns: Numbers) -> Numbers:
    """Return the product of matrices `[n, frames]` of logarithms and `[frames, m]` of numbers, as logarithms."""
    greatest: Numbers = rows.max(axis=1, keepdims=True)
    product: Numbers = np.log(np.maximum(np.exp(rows - greatest) @ columns, np.finfo(np.float64).tiny))
    return np.add(greatest, product)
