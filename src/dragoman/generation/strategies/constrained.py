"""The driver of constrained beam search: texts that contain given words (`force_words_ids`).

Besides the best continuations, every beam proposes the tokens that bring it further with the words. Candidates are then
taken from the ranks of progress in turn, the best of each rank first (dynamic beam allocation,
https://arxiv.org/abs/1804.06609). Which text has which word is worked out in plain Python, utterance by utterance; only
the scores stay on the device.
"""

from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Any

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array
from dragoman.generation.beams import EXCLUDED, best_candidates
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.result import GenerationResult
from dragoman.generation.run import Run
from dragoman.generation.strategies.constraints import Progress, Words, words_of

__all__ = ["search_with_words"]


@dataclass(frozen=True)
class _Text:
    """A hypothesis: its tokens, the rows they were chosen from, its score and its progress with the words."""

    tokens: tuple[int, ...]
    rows: tuple[int, ...]
    score: float
    progress: Progress


class _Utterance:
    """The beams and the finished texts of one utterance."""

    def __init__(self, run: Run, words: Words, prompt: list[int], first_row: int) -> None:
        self.run, self.words, self.first_row = run, words, first_row
        begun = _Text(tuple(prompt), (), 0.0, words.start())
        # The beams are equal at first, so all but one are hopeless.
        self.beams = [begun] + [_Text(begun.tokens, (), EXCLUDED, begun.progress)] * (run.plan.num_beams - 1)
        self.finished = list[_Text]()
        self.done = False

    def advance(self, candidates: list[tuple[float, int, int]], helpful: dict[int, list[float]]) -> None:
        """Take candidates (score, beam, token), the best first, and the scores of helpful tokens, by beam."""
        plan = self.run.plan
        if self.done:  # the beams only keep their places in the batch
            self.beams = [self._then(beam, plan.pad, 0.0) for beam in range(plan.num_beams)]
            return
        going = list[_Text]()
        for rank, (score, beam, token) in enumerate(candidates):
            text = self._then(beam, token, score)
            if token not in plan.eos:
                going.append(text)
            elif rank < plan.num_beams and self.beams[beam].progress.complete:
                self._finish(text)
        self.beams = self._allocate(going[: plan.num_beams], helpful)
        self.done = self._hopeless(candidates[0][0])

    def best(self) -> list[_Text]:
        """Return the texts to give back, the best first; those without all words only where others are missing."""
        if not self.done:
            for beam in self.beams:
                if beam.progress.complete:
                    self._finish(beam)
        count = self.run.plan.num_return_sequences
        rest = [self._scored(beam) for beam in self.beams if not beam.progress.complete]
        return (self.finished + sorted(rest, key=lambda text: -text.score))[:count]

    def _then(self, beam: int, token: int, score: float) -> _Text:
        text = self.beams[beam]
        progress = self.words.read(text.progress, token)
        return _Text((*text.tokens, token), (*text.rows, self.first_row + beam), score, progress)

    def _allocate(self, going: list[_Text], helpful: dict[int, list[float]]) -> list[_Text]:
        """Choose the next beams from the best continuations and from those that help, from all ranks in turn."""
        seen, texts = {text.tokens for text in going}, list(going)
        for beam, text in enumerate(self.beams):
            for token in self.words.helpful(text.progress):
                new = self._then(beam, token, helpful[token][beam])
                if new.tokens not in seen:
                    seen.add(new.tokens)
                    texts.append(new)
        if len(texts) == len(going):
            return going
        ranks = {text.tokens: self.words.rank(text.progress) for text in texts}
        texts = sorted(texts, key=lambda text: (-ranks[text.tokens], -text.score))
        groups = [list(group) for _, group in groupby(texts, key=lambda text: ranks[text.tokens])]
        return [text for turn in zip_longest(*groups) for text in turn if text is not None][: len(going)]

    def _finish(self, text: _Text) -> None:
        self.finished = sorted([*self.finished, self._scored(text)], key=lambda one: -one.score)
        self.finished = self.finished[: self.run.plan.num_beams]

    def _scored(self, text: _Text) -> _Text:
        return replace(text, score=text.score / len(text.rows) ** self.run.options.length_penalty)

    def _hopeless(self, best: float) -> bool:
        """Return whether enough texts have finished and no candidate could beat them."""
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
        GenerationError: If a word has a token outside the vocabulary, or texts should stop for their contents.
    """
    xp, plan, device = run.ops.xp, run.plan, run.ops.device(step.logits)
    words = words_of(run.options.force_words_ids or [])
    _check(run, words, step.logits.shape[-1])
    texts = [
        _Utterance(run, words, tokens, place * plan.num_beams) for place, tokens in enumerate(to_numpy(prompt).tolist())
    ]
    decoder_state = decoder.expand(step.state, plan.num_beams)
    log_probs = run.scores_from(step, plan.num_beams, normalize=True)
    for length in range(plan.prompt_length, plan.max_length):
        _advance(run, words, texts, length, log_probs)
        if length + 1 == plan.max_length or all(text.done for text in texts) or run.stops.time_is_up():
            break
        beams = [beam for text in texts for beam in text.beams]
        decoder_state = decoder.select(decoder_state, xp.asarray([beam.rows[-1] for beam in beams], device=device))
        step = decoder.step(xp.asarray([beam.tokens[-1] for beam in beams], device=device), decoder_state)
        decoder_state, log_probs = step.state, run.scores_from(step, normalize=True)
    return _result(run, texts, prompt)


def _check(run: Run, words: Words, vocab: int) -> None:
    if words.tokens[-1] >= vocab:
        raise GenerationError(
            f"`force_words_ids` must hold token ids from 0 to {vocab - 1}, the decoder's vocabulary, but holds "
            f"{words.tokens[-1]}. Is it an id of another tokenizer?"
        )
    if run.stops.looks_at_texts():
        raise GenerationError(
            "`force_words_ids` cannot be combined with `stop_strings` or stopping criteria: a text ends with the end "
            "token, after all its words. Leave one of them out."
        )


def _advance(run: Run, words: Words, texts: list[_Utterance], length: int, log_probs: Array) -> None:
    """Let every utterance choose its next beams, from log-probabilities `[batch * beams, vocab]`."""
    ops, xp, plan, device = run.ops, run.ops.xp, run.plan, run.ops.device(log_probs)
    beams = [beam for text in texts for beam in text.beams]
    tokens = np.full((len(beams), plan.max_length), plan.beam_fill)
    tokens[:, :length] = [beam.tokens for beam in beams]
    log_probs = run.scores_of(xp.asarray(tokens, device=device), length, log_probs)
    run.record_scores(log_probs)
    running = np.asarray([beam.score for beam in beams], dtype=np.float32).reshape(-1, plan.num_beams)
    found = best_candidates(ops, plan, xp.asarray(running, device=device), log_probs)
    helpful = xp.take(log_probs, xp.asarray(words.tokens, device=device), axis=1)
    sums = to_numpy(helpful).reshape(*running.shape, -1) + running[:, :, None]
    for text, candidates, scores in zip(texts, zip(*map(to_numpy, found), strict=True), sums, strict=True):
        by_token = dict(zip(words.tokens, scores.T.tolist(), strict=True))
        text.advance(list(zip(*(x.tolist() for x in candidates), strict=True)), by_token)


def _result(run: Run, texts: list[_Utterance], prompt: Array) -> GenerationResult:
    xp, plan = run.ops.xp, run.plan
    best = [text for one in texts for text in one.best()]
    longest = max(len(text.tokens) for text in best)
    sequences = np.full((len(best), longest), plan.beam_fill)
    rows = np.full((len(best), longest - plan.prompt_length), -1)
    for place, text in enumerate(best):
        sequences[place, : len(text.tokens)] = text.tokens
        rows[place, : len(text.rows)] = text.rows

    def array(values: Any, dtype: Any) -> Array:
        return xp.asarray(values, dtype=dtype, device=run.ops.device(prompt))

    return run.result(
        sequences=array(sequences, prompt.dtype),
        ended=array([text.tokens[-1] in plan.eos for text in best], xp.bool),
        sequences_scores=array([text.score for text in best], xp.float32),
        beam_indices=array(rows, prompt.dtype) if run.options.return_dict_in_generate else None,
    )
