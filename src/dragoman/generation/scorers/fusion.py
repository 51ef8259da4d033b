"""Shallow fusion: a decoder whose choices others have a say in.

Each step, the scores of a language model (neural or of n-grams), of hot words, or of anything else that reads tokens
one by one, are added to the decoder's log-probabilities. All of them are `StepDecoder`s, so that their states are
expanded and selected with the decoder's, and every strategy of the search works with them.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Ops, ops_of
from dragoman.generation.decoder import Step, StepDecoder

__all__ = ["Fused", "Scorer", "given_scorers"]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """One that has a say.

    Attributes:
        model: Scores the next token. Its arrays may be NumPy's; they are moved to the decoder's.
        weight: What its scores are multiplied with.
        normalize: Turn its scores into log-probabilities first, for a neural language model.
        prompt: Tokens int `[batch, n]`, or `[1, n]` for all, that it reads in the place of the decoder's prompt, such
            as its own start token.
    """

    model: StepDecoder[Any]
    weight: float = 1.0
    normalize: bool = False
    prompt: Array = None


def given_scorers(scorers: Sequence[Scorer], options: dict[str, Any]) -> Sequence[Scorer]:
    """Return the scorers of a `generate` call, whose `options` may still name them `voices`; takes that name out."""
    if "voices" not in options:
        return scorers
    warnings.warn("`voices` is called `scorers` now; the old name will go.", FutureWarning, stacklevel=4)
    renamed: Sequence[Scorer] = options.pop("voices")
    return [*scorers, *renamed]


class FusedState(NamedTuple):
    """The states of the decoder and of each scorer."""

    decoder: Any
    scorers: tuple[Any, ...]


class Fused:
    """A `StepDecoder` made of one decoder and the scorers that are added to it.

    Reference: https://arxiv.org/abs/1503.03535, section 4.1.
    """

    def __init__(self, decoder: StepDecoder[Any], scorers: Sequence[Scorer]) -> None:
        self.decoder, self.scorers = decoder, tuple(scorers)

    def start(self, prompt: Array) -> Step[FusedState]:
        """Let all read the prompt.

        Raises:
            GenerationError: If a voice scores another number of tokens than the decoder.
        """
        step = self.decoder.start(prompt)
        heard = [scorer.model.start(_prompt_of(scorer, prompt)) for scorer in self.scorers]
        for place, other in enumerate(heard):
            if other.logits.shape != step.logits.shape:
                raise GenerationError(
                    f"What is added to a decoder's scores must have their shape {tuple(step.logits.shape)}, but number "
                    f"{place + 1} has {tuple(other.logits.shape)}. Do both use the same tokenizer?"
                )
        return self._joined(step, heard)

    def expand(self, state: FusedState, copies: int) -> FusedState:
        """Repeat each row of all states."""
        scorers = zip(self.scorers, state.scorers, strict=True)
        return FusedState(
            self.decoder.expand(state.decoder, copies), tuple(v.model.expand(s, copies) for v, s in scorers)
        )

    def step(self, tokens: Array, state: FusedState) -> Step[FusedState]:
        """Let all read one more token of each row."""
        scorers = zip(self.scorers, state.scorers, strict=True)
        return self._joined(self.decoder.step(tokens, state.decoder), [v.model.step(tokens, s) for v, s in scorers])

    def select(self, state: FusedState, rows: Array) -> FusedState:
        """Select the rows of all states."""
        scorers = zip(self.scorers, state.scorers, strict=True)
        return FusedState(self.decoder.select(state.decoder, rows), tuple(v.model.select(s, rows) for v, s in scorers))

    def _joined(self, step: Step[Any], heard: Sequence[Step[Any]]) -> Step[FusedState]:
        ops, bonus = ops_of(step.logits), step.bonus
        for scorer, other in zip(self.scorers, heard, strict=True):
            added = _scores(ops, scorer, other, step.logits)
            bonus = added if bonus is None else bonus + added
        return step._replace(bonus=bonus, state=FusedState(step.state, tuple(other.state for other in heard)))


def _prompt_of(scorer: Scorer, given: Array) -> Array:
    """Return what a voice reads first, in the array library of the decoder's prompt."""
    if scorer.prompt is None:
        return given
    ops = ops_of(given)
    prompt = ops.xp.asarray(scorer.prompt, dtype=given.dtype, device=ops.device(given))
    return ops.xp.repeat(prompt, given.shape[0] // prompt.shape[0], axis=0)


def _scores(ops: Ops, scorer: Scorer, step: Step[Any], like: Array) -> Array:
    xp = ops.xp
    logits = xp.astype(xp.asarray(step.logits, device=ops.device(like)), xp.float32, copy=False)
    scores = scorer.weight * (ops.log_softmax(logits) if scorer.normalize else logits)
    return scores if step.bonus is None else scores + xp.asarray(step.bonus, device=ops.device(like))
