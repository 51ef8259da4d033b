"""Constrained beam search: every returned sequence contains given words (`force_words_ids`).

Besides the best continuations, every beam proposes the tokens that advance it in the words. The next beams are taken
from the ranks of progress in turn, the best of each rank first (dynamic beam allocation,
https://arxiv.org/abs/1804.06609). Progress is tracked in plain Python, utterance by utterance; only scores stay on the
device.
"""

from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Any

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, has_possible
from dragoman.generation.beams import EXCLUDED, best_candidates
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.result import GenerationResult
from dragoman.generation.run import Run, raise_if_failed
from dragoman.generation.strategies.constraints import Progress, Words, words_of


@dataclass(frozen=True)
class _Hypothesis:
    """Tokens, the rows they were chosen from, the score and the progress in the words."""

    tokens: tuple[int, ...]
    rows: tuple[int, ...]
    score: float
    progress: Progress


class _Utterance:
    """The beams and finished hypotheses of one utterance."""

    def __init__(self, run: Run, words: Words, prompt: list[int], first_row: int) -> None:
        self.run, self.words, self.first_row = run, words, first_row
        first = _Hypothesis(tuple(prompt), (), 0.0, words.start())
        # The beams are equal at first, so all but one are excluded.
        self.beams = [first] + [replace(first, score=EXCLUDED)] * (run.plan.num_beams - 1)
        self.finished = list[_Hypothesis]()
        self.done = False

    def advance(self, candidates: list[tuple[float, int, int]], scores: dict[int, list[float]]) -> None:
        """Choose the next beams.

        Args:
            candidates: The best continuations (score, beam, token), best first.
            scores: For each token of the words, the scores of appending it to each beam.
        """
        plan = self.run.plan
        if self.done:  # the beams only keep their rows in the batch
            self.beams = [self._extended(beam, plan.pad, 0.0) for beam in range(plan.num_beams)]
            return
        running = list[_Hypothesis]()
        for rank, (score, beam, token) in enumerate(candidates):
            hypothesis = self._extended(beam, token, score)
            if token not in plan.eos:
                running.append(hypothesis)
            elif rank < plan.num_beams and self.beams[beam].progress.complete:
                self._finish(hypothesis)
        self.beams = self._allocate(running[: plan.num_beams], scores)
        self.done = self._cannot_improve(candidates[0][0])

    def best(self) -> list[_Hypothesis]:
        """Return the best hypotheses, best first; those that lack a word only if there are too few others."""
        if not self.done:
            for beam in self.beams:
                if beam.progress.complete:
                    self._finish(beam)
        count = self.run.plan.num_return_sequences
        rest = [self._scored(beam) for beam in self.beams if not beam.progress.complete]
        return (self.finished + sorted(rest, key=lambda one: -one.score))[:count]

    def _extended(self, beam: int, token: int, score: float) -> _Hypothesis:
        old = self.beams[beam]
        progress = self.words.read(old.progress, token)
        return _Hypothesis((*old.tokens, token), (*old.rows, self.first_row + beam), score, progress)

    def _allocate(self, running: list[_Hypothesis], scores: dict[int, list[float]]) -> list[_Hypothesis]:
        """Choose the next beams among the best continuations and those that advance in the words."""
        seen, choices = {one.tokens for one in running}, list(running)
        for beam, old in enumerate(self.beams):
            for token in self.words.advancing(old.progress):
                new = self._extended(beam, token, scores[token][beam])
                if new.tokens not in seen:
                    seen.add(new.tokens)
                    choices.append(new)
        if len(choices) == len(running):
            return running
        ranks = {one.tokens: self.words.rank(one.progress) for one in choices}
        choices = sorted(choices, key=lambda one: (-ranks[one.tokens], -one.score))
        groups = [list(group) for _, group in groupby(choices, key=lambda one: ranks[one.tokens])]
        return [one for turn in zip_longest(*groups) for one in turn if one is not None][: len(running)]

    def _finish(self, hypothesis: _Hypothesis) -> None:
        self.finished = sorted([*self.finished, self._scored(hypothesis)], key=lambda one: -one.score)
        self.finished = self.finished[: self.run.plan.num_beams]

    def _scored(self, one: _Hypothesis) -> _Hypothesis:
        return replace(one, score=one.score / len(one.rows) ** self.run.options.length_penalty)

    def _cannot_improve(self, best: float) -> bool:
        """Return whether enough hypotheses have finished and no candidate could beat them."""
        plan, options = self.run.plan, self.run.options
        if len(self.finished) < plan.num_beams:
            return False
        if options.early_stopping is True:
            return True
        full = options.early_stopping == "never" and options.length_penalty > 0
        generated = plan.max_length - plan.prompt_length if full else len(self.beams[0].rows)
        return bool(self.finished[-1].score >= best / generated**options.length_penalty)


def search_with_words(run: Run, decoder: StepDecoder[State], prompt: Array, step: Step[State]) -> GenerationResult:
    """Run constrained beam search from the first step on.

    Raises:
        GenerationError: If a word has a token outside the vocabulary, or there are stop strings or stopping criteria.
    """
    xp, plan, device = run.ops.xp, run.plan, run.ops.device(step.logits)
    words = words_of(run.options.force_words_ids or [])
    _check(run, words, step.logits.shape[-1])
    utterances = [
        _Utterance(run, words, tokens, place * plan.num_beams) for place, tokens in enumerate(to_numpy(prompt).tolist())
    ]
    decoder_state = decoder.expand(step.state, plan.num_beams)
    log_probs = run.scores_from(step, plan.num_beams, normalize=True)
    for length in range(plan.prompt_length, plan.max_length):
        _advance(run, words, utterances, length, log_probs)
        if length + 1 == plan.max_length or all(one.done for one in utterances) or run.stops.time_is_up():
            break
        beams = [beam for one in utterances for beam in one.beams]
        decoder_state = decoder.select(decoder_state, xp.asarray([beam.rows[-1] for beam in beams], device=device))
        step = decoder.step(xp.asarray([beam.tokens[-1] for beam in beams], device=device), decoder_state)
        decoder_state, log_probs = step.state, run.scores_from(step, normalize=True)
    return _result(run, utterances, prompt)


def _check(run: Run, words: Words, vocab: int) -> None:
    if words.tokens[-1] >= vocab:
        raise GenerationError(
            f"`force_words_ids` must hold token ids from 0 to {vocab - 1}, the decoder's vocabulary, but holds "
            f"{words.tokens[-1]}. Is it an id of another tokenizer?"
        )
    if run.stops.reads_sequences:
        raise GenerationError(
            "`force_words_ids` cannot be combined with `stop_strings` or stopping criteria: a sequence ends with the "
            "end token, after all words. Leave one of them out."
        )


def _advance(run: Run, words: Words, utterances: list[_Utterance], length: int, log_probs: Array) -> None:
    """Choose the next beams of every utterance, from log-probabilities `[batch * beams, vocab]`."""
    ops, xp, plan, device = run.ops, run.ops.xp, run.plan, run.ops.device(log_probs)
    beams = [beam for one in utterances for beam in one.beams]
    tokens = np.full((len(beams), plan.max_length), plan.beam_fill)
    tokens[:, :length] = [beam.tokens for beam in beams]
    log_probs = run.process(xp.asarray(tokens, device=device), length, log_probs)
    run.record_scores(log_probs)
    raise_if_failed(~has_possible(ops, xp.reshape(log_probs, (len(utterances), -1))))
    running = np.asarray([beam.score for beam in beams], dtype=np.float32).reshape(-1, plan.num_beams)
    found = best_candidates(ops, plan, xp.asarray(running, device=device), log_probs)
    of_words = xp.take(log_probs, xp.asarray(words.tokens, device=device), axis=1)
    sums = to_numpy(of_words).reshape(*running.shape, -1) + running[:, :, None]
    for utterance, candidates, scores in zip(utterances, zip(*map(to_numpy, found), strict=True), sums, strict=True):
        by_token = dict(zip(words.tokens, scores.T.tolist(), strict=True))
        utterance.advance(list(zip(*(x.tolist() for x in candidates), strict=True)), by_token)


def _result(run: Run, utterances: list[_Utterance], prompt: Array) -> GenerationResult:
    xp, plan = run.ops.xp, run.plan
    best = [hypothesis for one in utterances for hypothesis in one.best()]
    longest = max(len(one.tokens) for one in best)
    sequences = np.full((len(best), longest), plan.beam_fill)
    rows = np.full((len(best), longest - plan.prompt_length), -1)
    for place, one in enumerate(best):
        sequences[place, : len(one.tokens)] = one.tokens
        rows[place, : len(one.rows)] = one.rows

    def array(values: Any, dtype: Any) -> Array:
        return xp.asarray(values, dtype=dtype, device=run.ops.device(prompt))

    return run.result(
        sequences=array(sequences, prompt.dtype),
        ended=array([one.tokens[-1] in plan.eos for one in best], xp.bool),
        sequences_scores=array([one.score for one in best], xp.float32),
        beam_indices=array(rows, prompt.dtype) if run.options.return_dict_in_generate else None,
    )
