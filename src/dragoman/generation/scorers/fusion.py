"""Shallow fusion: extra scores added to the decoder's log-probabilities at each step.

They come from a language model (neural or n-gram), hot words, or anything else that reads tokens one by one. All of
these are `StepDecoder`s, so their states are expanded and selected along with the decoder's, and every search strategy
works with them.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Ops, ops_of
from dragoman.generation.decoder import Step, StepDecoder


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A source of extra scores.

    Attributes:
        model: Scores the next token. It may return NumPy arrays; they are converted to the decoder's library.
        weight: Factor of its scores.
        normalize: Turn its scores into log-probabilities first, as for a neural language model.
        prompt: Tokens int `[batch, n]`, or `[1, n]` for all, that it reads instead of the decoder's prompt, such as its
            own start token.
    """

    model: StepDecoder[Any]
    weight: float = 1.0
    normalize: bool = False
    prompt: Array = None


def given_scorers(scorers: Sequence[Scorer], options: dict[str, Any]) -> Sequence[Scorer]:
    """Return the scorers of a `generate` call; removes their deprecated name `voices` from `options`."""
    if "voices" not in options:
        return scorers
    warnings.warn("`voices` is called `scorers` now; the old name will be removed.", FutureWarning, stacklevel=3)
    renamed: Sequence[Scorer] = options.pop("voices")
    return [*scorers, *renamed]


class FusedState(NamedTuple):
    """The states of the decoder and of each scorer."""

    decoder: Any
    scorers: tuple[Any, ...]


class Fused:
    """A `StepDecoder`: a decoder with the scores of scorers added.

    Reference: https://arxiv.org/abs/1503.03535, section 4.1.
    """

    def __init__(self, decoder: StepDecoder[Any], scorers: Sequence[Scorer]) -> None:
        self.decoder, self.scorers = decoder, tuple(scorers)

    def start(self, prompt: Array) -> Step[FusedState]:
        """Read the prompt with the decoder and all scorers.

        Raises:
            GenerationError: If a scorer's vocabulary has another size than the decoder's.
        """
        step = self.decoder.start(prompt)
        others = [scorer.model.start(_prompt_of(scorer, prompt)) for scorer in self.scorers]
        for place, other in enumerate(others):
            if other.logits.shape != step.logits.shape:
                raise GenerationError(
                    f"The scores of a scorer must have the shape of the decoder's, {tuple(step.logits.shape)}, but "
                    f"scorer {place + 1} has {tuple(other.logits.shape)}. Do both use the same tokenizer?"
                )
        return self._with_bonus(step, others)

    def expand(self, state: FusedState, copies: int) -> FusedState:
        """Repeat each row of all states `copies` times."""
        scorers = zip(self.scorers, state.scorers, strict=True)
        others = tuple(scorer.model.expand(s, copies) for scorer, s in scorers)
        return FusedState(self.decoder.expand(state.decoder, copies), others)

    def step(self, tokens: Array, state: FusedState) -> Step[FusedState]:
        """Read the next token of each row with the decoder and all scorers."""
        scorers = zip(self.scorers, state.scorers, strict=True)
        others = [scorer.model.step(tokens, s) for scorer, s in scorers]
        return self._with_bonus(self.decoder.step(tokens, state.decoder), others)

    def select(self, state: FusedState, rows: Array) -> FusedState:
        """Select the rows of all states."""
        scorers = zip(self.scorers, state.scorers, strict=True)
        others = tuple(scorer.model.select(s, rows) for scorer, s in scorers)
        return FusedState(self.decoder.select(state.decoder, rows), others)

    def _with_bonus(self, step: Step[Any], others: Sequence[Step[Any]]) -> Step[FusedState]:
        ops, bonus = ops_of(step.logits), step.bonus
        for scorer, other in zip(self.scorers, others, strict=True):
            scores = _scores(ops, scorer, other, step.logits)
            bonus = scores if bonus is None else bonus + scores
        return step._replace(bonus=bonus, state=FusedState(step.state, tuple(other.state for other in others)))


def _prompt_of(scorer: Scorer, given: Array) -> Array:
    """Return the prompt of a scorer, in the array library of the decoder's prompt."""
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
