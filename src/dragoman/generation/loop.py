"""`generate` over any decoder that takes one step at a time, in a Python loop: NumPy, PyTorch, ONNX Runtime.

Not here: the strategies (`strategies/`) and their arithmetic (`rows.py`, `beams.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, ops_of
from dragoman.generation.chain import build_filters, build_processors
from dragoman.generation.decoder import State, Step, StepDecoder
from dragoman.generation.noise import utterance_keys
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan, plan_of
from dragoman.generation.processors import UserProcessor
from dragoman.generation.result import GenerationResult
from dragoman.generation.run import Run
from dragoman.generation.scorers.fusion import Fused, Scorer
from dragoman.generation.stopping import StoppingCriterion, stops_of
from dragoman.generation.strategies.beam_search import search_beams
from dragoman.generation.strategies.constrained import search_with_words
from dragoman.generation.strategies.contrastive import search_contrastively
from dragoman.generation.strategies.greedy import search_rows
from dragoman.generation.strategies.speculative import RewindableDecoder, search_with_draft
from dragoman.generation.streamers import Streamer
from dragoman.generation.token_log_probs import TokenLogProbs


def generate(
    decoder: StepDecoder[State],
    prompt: Array,
    options: GenerationConfig,
    *,
    capacity: int | None = None,
    plan: Plan | None = None,
    seed: int | Sequence[int] = 0,
    processors: Sequence[UserProcessor] = (),
    prefix_allowed_tokens_fn: Callable[[int, Array], Sequence[int]] | None = None,
    criteria: Sequence[StoppingCriterion] = (),
    decode: Callable[[list[int]], str] | None = None,
    streamer: Streamer | None = None,
    draft: RewindableDecoder[Any] | None = None,
    scorers: Sequence[Scorer] = (),
    token_log_probs: bool = False,
) -> GenerationResult:
    """Generate token sequences for a batch of utterances.

    Args:
        decoder: Holds the encoded speech of the batch.
        prompt: int `[batch, prompt_length]`, beginning with the start token; the search uses its array library.
        options: The strategy and everything else; see `GenerationConfig`.
        capacity: Maximum number of tokens that the decoder can take; the maximum length if `options` set none.
        plan: The result of `plan_of`, for a caller that has it already; `capacity` is then ignored.
        seed: For sampling. A number for the batch, or one for each utterance, which then gives the same samples in any
            batch and at any place in it.
        processors: The caller's own logits processors, as in `transformers`.
        prefix_allowed_tokens_fn: `f(utterance, tokens)` returns the ids that may come next.
        criteria: The caller's own stopping criteria, as in `transformers`.
        decode: Turns ids into text, for `stop_strings`.
        streamer: Receives the prompt and each new token; not with beams.
        draft: A smaller decoder of the same vocabulary, for speculative decoding; both must be `RewindableDecoder`s.
        scorers: Extra scores added to the decoder's log-probabilities at each step (shallow fusion).
        token_log_probs: Return the decoder's own log-probability of each generated token.

    Raises:
        GenerationError: If options are not allowed, alone or for this prompt and decoder.
    """
    options.validate()
    _check_prompt(prompt)
    _check_combinations(options, streamer, draft, scorers, token_log_probs)
    ops = ops_of(prompt)
    if plan is None:
        plan = plan_of(options, prompt.shape[1], capacity)
    keys = utterance_keys(ops, seed, prompt) if options.do_sample else None
    stops = stops_of(options, plan.prompt_length, criteria, decode)
    searched: StepDecoder[Any] = Fused(decoder, scorers) if scorers else decoder
    try:
        first = searched.start(prompt)
        chain = build_processors(ops, options, plan, first.logits, processors, prefix_allowed_tokens_fn)
        chain += build_filters(ops, options, plan)
        run = Run(ops, plan, options, chain, keys, stops, streamer, TokenLogProbs(ops) if token_log_probs else None)
        return _run_strategy(run, searched, prompt, first, draft)
    except BaseException:
        if streamer is not None:
            streamer.end()  # a reader in another thread would wait forever
        raise


def _run_strategy(
    run: Run, decoder: StepDecoder[State], prompt: Array, first: Step[State], draft: RewindableDecoder[Any] | None
) -> GenerationResult:
    if draft is not None:
        return search_with_draft(run, cast("RewindableDecoder[State]", decoder), draft, prompt, first)
    if run.options.force_words_ids:
        return search_with_words(run, decoder, prompt, first)
    if run.plan.num_beams > 1:
        return search_beams(run, decoder, prompt, first)
    if run.options.penalty_alpha:
        return search_contrastively(run, decoder, prompt, first)
    return search_rows(run, decoder, prompt, first)


def _check_prompt(prompt: Array) -> None:
    if len(prompt.shape) != 2 or 0 in prompt.shape:
        raise GenerationError(
            f"The prompt must have the shape [batch, tokens] with at least one of each (the start token), but has "
            f"{tuple(prompt.shape)}."
        )
    if not ops_of(prompt).xp.isdtype(prompt.dtype, "integral"):
        raise GenerationError(f"The prompt must hold token ids, whole numbers, but holds {prompt.dtype}.")


def _check_combinations(
    options: GenerationConfig,
    streamer: Streamer | None,
    draft: RewindableDecoder[Any] | None,
    scorers: Sequence[Scorer],
    token_log_probs: bool,
) -> None:
    if streamer is not None and (options.num_beams > 1 or options.num_return_sequences > 1):
        raise GenerationError(
            f"A streamer can follow one sequence per utterance, but `num_beams` is {options.num_beams} and "
            f"`num_return_sequences` is {options.num_return_sequences}: set both to 1, or leave the streamer out."
        )
    if draft is not None and (options.num_beams > 1 or options.do_sample or options.penalty_alpha):
        raise GenerationError(
            "Speculative decoding gives the result of greedy search, faster; it cannot be combined with `num_beams`, "
            "`do_sample` or `penalty_alpha`. Leave these or the draft model out."
        )
    if draft is not None and (options.output_logits or options.output_attentions or options.output_hidden_states):
        raise GenerationError(
            "Speculative decoding reads several tokens in a step, so it cannot return `output_logits`, "
            "`output_attentions` or `output_hidden_states` for each. Leave these or the draft model out."
        )
    if draft is not None and scorers:
        raise GenerationError(
            "Speculative decoding checks proposals against the decoder's scores alone. Leave `scorers` (hot words, "
            "language models) or the draft model out."
        )
    if token_log_probs and (draft is not None or options.force_words_ids):
        raise GenerationError(
            "`token_log_probs` are recorded by greedy search, sampling, beam search and contrastive search, not by "
            "speculative decoding or with `force_words_ids`. Leave it out, or use `compute_transition_scores`."
        )
