"""The JAX driver of the search: one compiled program that runs until the texts end or its cache is full.

Shapes are rounded up, so that few programs serve a varied workload: see `buckets.py`. Options that look at values (a
caller's own processors, the clock) or ask for records of every step run step by step instead, with the search in NumPy.
Not here: the search itself (`dragoman.generation`), which knows no framework.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PRNGKeyArray

from dragoman.errors import GenerationError
from dragoman.generation import beams, loop
from dragoman.generation.arrays import Ops, ops_of
from dragoman.generation.forced import ForcedTokens
from dragoman.generation.fusion import Voice
from dragoman.generation.noise import fold, sample_keys, utterance_keys
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan, plan_of
from dragoman.generation.processors import Force, Processor, build_processors
from dragoman.generation.result import GenerationResult
from dragoman.generation.run import Run
from dragoman.generation.sampling import build_filters, draw
from dragoman.generation.search import BeamState, RowState, advance_rows, begin_rows
from dragoman.generation.settings import prompt_mask_of, prompt_of, settings_of, warn_if_cut_off
from dragoman.generation.stopping import stops_of
from dragoman.inputs import one_audio
from dragoman.jax.arguments import hear
from dragoman.jax.buckets import fill_rows, pad_to_bucket, rounded
from dragoman.jax.cache import Cache, Memory
from dragoman.jax.joint import Joint
from dragoman.jax.steps import CachedDecoder

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["generate", "warm_up"]

_FIRST_CAPACITY = 64  # tokens; doubled as often as a text asks for it


@dataclass(frozen=True)
class Recipe:
    """What is compiled into a program besides shapes; equal recipes share it.

    Attributes:
        plan: Lengths and ids.
        text: The options, as they compare.
        options: The options.
        forced: Tokens forced at fixed places.
    """

    plan: Plan
    text: str
    forced: tuple[tuple[int, int], ...]
    options: GenerationConfig = field(compare=False)


class Search(NamedTuple):
    """A search between two programs: what was found so far, and what the decoder remembers."""

    states: RowState | list[BeamState]
    cache: Cache
    done: Array


def generate(
    model: "FlaxSpeechEncoderDecoderModel",
    inputs: Any = None,
    generation_config: GenerationConfig | None = None,
    *,
    input_values: Any = None,
    input_features: Any = None,
    attention_mask: Any = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Int[Array, "batch tokens"] | None = None,
    decoder_attention_mask: Any = None,
    logits_processor: Sequence[Any] | None = None,
    prefix_allowed_tokens_fn: Any = None,
    stopping_criteria: Sequence[Any] | None = None,
    streamer: Any = None,
    tokenizer: Any = None,
    assistant_model: "FlaxSpeechEncoderDecoderModel | None" = None,
    voices: Sequence[Voice] = (),
    token_log_probs: bool = False,
    seed: int | Sequence[int] | None = None,
    prng_key: PRNGKeyArray | None = None,
    params: Any = None,
    **options: Any,
) -> Any:
    """Write texts for a batch of speech.

    Args:
        model: The model.
        inputs: The audio, positionally; or use `input_values` or `input_features`.
        generation_config: Options; those it leaves at their defaults come from the model's own.
        input_values: Waveforms, `[batch, samples]`.
        input_features: Log-mel spectrograms, `[batch, mels, frames]`.
        attention_mask: 1 where a sample counts, `[batch, samples]`.
        encoder_outputs: What the encoder gave before; the audio is then not needed.
        decoder_input_ids: Beginning of the texts. The start id is put before it where it is not there yet.
        decoder_attention_mask: 1 where a token of these counts, `[batch, tokens]`: beginnings of several lengths are
            padded on the left.
        logits_processor: Callables `(tokens, scores) -> scores` over NumPy arrays, after the built-in ones.
        prefix_allowed_tokens_fn: `(utterance, tokens) -> ids` that may come next.
        stopping_criteria: Callables `(tokens, scores) -> bool or bools` that end texts, in Hugging Face's form.
        streamer: Is told each token as it comes (`dragoman.generation.streamers`); without beams.
        tokenizer: Turns ids into text, for `stop_strings`.
        assistant_model: A smaller model of the same vocabulary that drafts for greedy search: the same text.
        voices: What else has a say in each step: hot words, language models (`dragoman.generation.fusion`).
        token_log_probs: Return the decoder's own log-probability of each token, in an output of
            `return_dict_in_generate`.
        seed: For sampling; a number for the batch or one an utterance: the same one gives the same texts in PyTorch.
        prng_key: For sampling, instead of `seed`. By default drawn from Python's `random`.
        params: Used instead of the model's own.
        **options: Fields of `GenerationConfig` for this call.

    Returns:
        Token ids `[batch * num_return_sequences, tokens]`, start and end included, padded on the right; with
        `return_dict_in_generate`, an output with scores and more.

    Raises:
        GenerationError: If options are unknown or impossible, or no start id is set.

    Without `max_new_tokens` or `max_length`, a text may be as long as the decoder has positions; a text that is cut off
    is warned about.
    """
    settings = settings_of(model.config, model.generation_config, generation_config, options)
    settings.validate()
    audio = one_audio(inputs, input_values, input_features)
    heard = hear(model.encoder, audio, attention_mask, encoder_outputs)
    batch = (heard[2].last_hidden_state if heard[2] is not None else heard[0]).shape[0]
    prompt, later = prompt_of(settings, batch, decoder_input_ids, model.decoder.spec.vocab_size)
    counts = prompt_mask_of(decoder_attention_mask, decoder_input_ids, prompt)
    plan = plan_of(settings, prompt.shape[1], _room(model, heard))
    if seed is not None and prng_key is not None:
        raise GenerationError("`seed` and `prng_key` both say how to sample; pass one of them.")
    if seed is None:
        seed = random.getrandbits(31) if prng_key is None else _seed_of(prng_key)
    of_values = (logits_processor, voices, stopping_criteria)
    looks = any(of_values) or token_log_probs or any(x is not None for x in (prefix_allowed_tokens_fn, streamer))
    if _needs_steps(settings) or looks or assistant_model is not None:
        result, encoded = _stepwise(
            model,
            heard,
            settings,
            prompt,
            counts,
            plan,
            params,
            seed=seed,
            processors=[*([ForcedTokens(later)] if later else []), *(logits_processor or ())],
            prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
            criteria=stopping_criteria or (),
            streamer=streamer,
            decode=None if tokenizer is None else tokenizer.decode,
            draft=None if assistant_model is None else _drafting(assistant_model, audio, attention_mask, plan, counts),
            voices=voices,
            token_log_probs=token_log_probs,
        )
    else:
        result, encoded = _compiled(model, heard, _recipe(plan, settings, later), prompt, counts, params, seed), None
    warn_if_cut_off(settings, plan, result.ended)
    if not settings.return_dict_in_generate:
        return jax.device_put(np.asarray(result.sequences, np.int32))
    output = result.to_output(*((None, None) if encoded is None else (encoded.attentions, encoded.hidden_states)))
    return replace(output, **{name: jax.device_put(value) for name, value in output.items()})


def warm_up(
    model: "FlaxSpeechEncoderDecoderModel",
    batch: int,
    samples: int,
    generation_config: GenerationConfig | None = None,
    *,
    params: Any = None,
    **options: Any,
) -> None:
    """Compile all programs that `generate` needs for batches that round up to this size; nothing is generated.

    Args:
        model: The model.
        batch: Utterances.
        samples: Samples of the longest utterance, or frames of the spectrograms or filter banks.
        generation_config: As in `generate`.
        params: As in `generate`.
        **options: As in `generate`: other options are other programs.

    Raises:
        GenerationError: If options are unknown or impossible, or cannot be compiled.
    """
    settings = settings_of(model.config, model.generation_config, generation_config, options)
    settings.validate()
    if batch < 1:
        raise GenerationError(f"`batch` must be at least 1, but is {batch}.")
    if _needs_steps(settings):
        raise GenerationError(
            "`warm_up` compiles whole searches, but with these options the decoder runs step by step. "
            "Its step is compiled when `generate` first takes it."
        )
    prompt, later = prompt_of(settings, batch, None, model.decoder.spec.vocab_size)
    shape = model.encoder.spec.frontend.input_shape(batch, samples)
    heard = (*model.encoder.prepare(np.zeros(shape, np.float32), None), None)
    plan = plan_of(settings, prompt.shape[1], _room(model, heard))
    _compiled(model, heard, _recipe(plan, settings, later), prompt, None, params, 0, rehearse=True)


def _recipe(plan: Plan, settings: GenerationConfig, later: Mapping[int, int]) -> "Recipe":
    return Recipe(plan, repr(sorted(settings.to_dict().items())), tuple(sorted(later.items())), settings)


def _drafting(
    model: "FlaxSpeechEncoderDecoderModel", audio: Any, attention_mask: Any, plan: Plan, counts: Any
) -> CachedDecoder:
    """Return the decoder of a smaller model, looking at what its own encoder hears."""
    if model.backend != "jax":
        raise GenerationError("`assistant_model` must be a model in JAX too: a FlaxSpeechEncoderDecoderModel.")
    heard = hear(model.encoder, audio, attention_mask, None)
    memory = _memory(model, heard, heard[0].shape[0], model.params)
    return CachedDecoder(model, memory, plan.max_length, GenerationConfig(), None, counts)


def _room(model: "FlaxSpeechEncoderDecoderModel", heard: tuple[Any, Any, Any]) -> int:
    """Return how many tokens a text may have behind this speech."""
    inputs, lengths, encoded = heard
    if encoded is not None:
        return model.room(encoded.last_hidden_state.shape[1])
    padded, _ = pad_to_bucket(model, inputs[:1], None if lengths is None else lengths[:1], 1)
    return model.room(int(model.encoder.spec.frame_lengths(padded.shape[model.encoder.spec.frontend.time_axis])))


def _needs_steps(settings: GenerationConfig) -> bool:
    """Return whether something asked for cannot be traced, or is wanted of every step."""
    records = (
        settings.output_scores or settings.output_logits or settings.output_attentions or settings.output_hidden_states
    )
    looks = settings.stop_strings is not None or settings.max_time is not None
    others = bool(settings.penalty_alpha) or settings.force_words_ids is not None
    return looks or others or (settings.return_dict_in_generate and records)


def _seed_of(key: PRNGKeyArray) -> int:
    words = np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
    return int.from_bytes(words.astype(np.uint32).tobytes()[-8:], "little")


def _compiled(
    model: "FlaxSpeechEncoderDecoderModel",
    heard: tuple[Any, Any, Any],
    recipe: Recipe,
    prompt: np.ndarray[Any, Any],
    counts: np.ndarray[Any, Any] | None,
    params: Any,
    seed: int | Sequence[int],
    *,
    rehearse: bool = False,
) -> GenerationResult:
    """Search in compiled programs: one hears, one searches, and one more for each time that the cache has to grow."""
    batch, plan = prompt.shape[0], recipe.plan
    keys = utterance_keys(ops_of(prompt), seed, prompt) if recipe.options.do_sample else None
    params = model.params if params is None else params  # looked up once for all programs
    rows = rounded(batch, 2)
    memory = _memory(model, heard, rows, params)
    prompt = fill_rows(prompt.astype(np.int32), rows)
    keys, counts = (None if x is None else fill_rows(x, rows) for x in (keys, counts))
    # A rehearsal compiles every program, but lets none of them take a step.
    limit = np.int32(0 if rehearse else plan.max_length)
    static = ("recipe", "capacity")
    capacity = min(_FIRST_CAPACITY, plan.max_length)
    first = model.program(_begin_and_search, static)
    found = first(params, memory, prompt, counts, keys, limit, recipe=recipe, capacity=capacity)
    while capacity < plan.max_length and (rehearse or not bool(found.done)):
        capacity = min(2 * capacity, plan.max_length)
        found = model.program(_search_on, static)(params, memory, found, keys, limit, recipe=recipe, capacity=capacity)
    return _result(recipe, jax.device_get(found.states), batch)


def _memory(model: "FlaxSpeechEncoderDecoderModel", heard: tuple[Any, Any, Any], rows: int, params: Any) -> Memory:
    """Return what the decoder attends to, for `rows` utterances, those beyond the batch being copies of the first."""
    inputs, lengths, encoded = heard
    if encoded is not None:
        encoded = jax.tree.map(lambda x: fill_rows(np.asarray(x), rows), encoded)
        given_before: Memory = model.program(Joint.project)(params, encoded)
        return given_before
    heard_now: Memory = model.program(Joint.listen)(params, *pad_to_bucket(model, inputs, lengths, rows))
    return heard_now


def _begin_and_search(
    joint: Joint,
    memory: Memory,
    prompt: Array,
    counts: Array | None,
    keys: Array | None,
    limit: Array,
    recipe: Recipe,
    capacity: int,
) -> Search:
    """Read the prompt but for its last token, which the first step reads, and search until the cache is full."""
    plan, (batch, tokens) = recipe.plan, prompt.shape
    cache = replace(joint.decoder.begin(memory, batch, max(capacity, tokens)), text_mask=counts)
    if tokens > 1:
        _, read = joint.decoder.decode(prompt[:, :-1], memory, cache)
        assert read is not None
        cache = read
    cache = cache.expanded(plan.num_beams * plan.num_samples)
    run = _run(recipe, prompt, joint.decoder.spec.vocab_size, keys)
    states: RowState | list[BeamState]
    if plan.num_beams > 1:
        states = [_traced(state) for state in beams.begin(run, prompt)[2]]
    else:
        states = _traced(begin_rows(run.ops, plan, jnp.repeat(prompt, plan.num_samples, axis=0)))
    return _search(joint, run, memory, Search(states, cache, jnp.zeros((), bool)), limit)


def _search_on(
    joint: Joint, memory: Memory, found: Search, keys: Array | None, limit: Array, recipe: Recipe, capacity: int
) -> Search:
    """Give the cache more room and search on."""
    run = _run(recipe, found.cache.keys[0], joint.decoder.spec.vocab_size, keys)
    cache = found.cache.grown(capacity + found.cache.prefix_length)
    return _search(joint, run, memory, found._replace(cache=cache), limit)


def _search(joint: Joint, run: Run, memory: Memory, found: Search, limit: Array) -> Search:
    def goes_on(found: Search) -> Any:
        first = found.states[0] if isinstance(found.states, list) else found.states
        return ~found.done & (found.cache.length < found.cache.capacity) & (first.length < limit)

    step = _beam_step if run.plan.num_beams > 1 else _row_step
    return lax.while_loop(goes_on, lambda found: step(joint, run, memory, found), found)


def _row_step(joint: Joint, run: Run, memory: Memory, found: Search) -> Search:
    """Greedy search and sampling: one more token for each text."""
    state, ops = found.states, run.ops
    assert isinstance(state, RowState)
    logits, cache = _next(joint, run, state.tokens, state.length, memory, found.cache)
    scores = run.scores_of(state.tokens, state.length, logits)
    if run.keys is None:
        chosen = jnp.argmax(scores, axis=-1)
    else:
        keys = sample_keys(ops, run.keys, run.plan.num_samples)
        chosen = draw(ops, fold(ops, keys, state.length), scores)
    state = advance_rows(ops, run.plan, state, chosen)
    done = state.length >= run.plan.max_length
    return Search(state, cache, done | (state.ended.all() if run.plan.eos else False))


def _beam_step(joint: Joint, run: Run, memory: Memory, found: Search) -> Search:
    """Beam search and beam sampling: one more token for each beam."""
    states = found.states
    assert isinstance(states, list)
    batch = states[0].tokens.shape[0]
    texts = jnp.concatenate([state.tokens for state in states], axis=1)
    rows = texts.reshape(-1, texts.shape[2])
    logits, cache = _next(joint, run, rows, states[0].length, memory, found.cache)
    group, rules, _ = beams.begin(run, jnp.zeros((batch, run.plan.prompt_length), texts.dtype))
    states, parents, _, done = beams.advance(group, rules, states, run.ops.log_softmax(logits))
    return Search(states, cache.selected(parents.reshape(-1)), done)


def _next(joint: Joint, run: Run, texts: Array, length: Array, memory: Memory, cache: Cache) -> tuple[Array, Cache]:
    """Read the last token of each text, which has `length` tokens, and score the next one."""
    last = lax.dynamic_slice_in_dim(texts, length - 1, 1, axis=1)
    pad, given, positions = joint.decoder.spec.pad_token_id, run.plan.prompt_length, None
    if joint.decoder.spec.padding_apart and pad is not None and given > 1:
        # the first token that is read here still is one of the prompt, of which padding has no numbers
        inside = jnp.count_nonzero(texts[:, :given] - pad, axis=1, keepdims=True) - 1
        positions = jnp.where(length == given, inside, length - 1)
    out, read = joint.decoder.decode(last, memory, cache, positions=positions)
    assert read is not None
    return joint.decoder.logits(out.states[:, -1]).astype(jnp.float32), read


def _run(recipe: Recipe, like: Any, vocab: int, keys: Any) -> Run:
    """Return the search that a recipe describes, over the library of the array `like`."""
    ops, plan, options = ops_of(like), recipe.plan, recipe.options
    chain = _chain(ops, recipe, ops.xp.zeros((1, vocab), dtype=ops.xp.float32))
    return Run(ops, plan, options, chain, keys, stops_of(options, plan.prompt_length, (), None), None)


def _chain(ops: Ops, recipe: Recipe, like: Any) -> list[Processor]:
    chain = build_processors(ops, recipe.options, recipe.plan, like)
    for place, token in recipe.forced:
        chain.append(Force(ops, ops.xp.arange(like.shape[1]) == token, at=place))
    chain += build_filters(ops, recipe.options, recipe.plan)
    if recipe.options.renormalize_logits:
        chain.append(lambda tokens, length, scores: ops.log_softmax(scores))
    return chain


def _traced(state: Any) -> Any:
    """Return a state whose length is an array, as a loop that is traced carries it."""
    return state._replace(length=jnp.asarray(state.length, jnp.int32))


def _result(recipe: Recipe, states: Any, batch: int) -> GenerationResult:
    """Return the texts of the first `batch` utterances."""
    if isinstance(states, list):
        states = [
            type(state)(*(x if x is None or x.ndim == 0 else x[:batch] for x in state))._replace(
                length=int(state.length)
            )
            for state in states
        ]
        stops = stops_of(recipe.options, recipe.plan.prompt_length, (), None)
        run = Run(ops_of(states[0].scores), recipe.plan, recipe.options, [], None, stops, None)
        return beams.best(run, states)
    rows = batch * recipe.plan.num_samples
    return GenerationResult(sequences=states.tokens[:rows, : int(states.length)], ended=states.ended[:rows])


def _stepwise(
    model: "FlaxSpeechEncoderDecoderModel",
    heard: tuple[Any, Any, Any],
    settings: GenerationConfig,
    prompt: np.ndarray[Any, Any],
    counts: np.ndarray[Any, Any] | None,
    plan: Plan,
    params: Any,
    **search: Any,
) -> tuple[GenerationResult, Any]:
    """Search in NumPy, one compiled step of the decoder after the other."""
    encoded = None
    if not (settings.output_attentions or settings.output_hidden_states):
        memory = _memory(model, heard, prompt.shape[0], model.params if params is None else params)
    else:
        encoded = heard[2] or model.program(Joint.encode)(
            params, *heard[:2], all_states=settings.output_hidden_states, weights=settings.output_attentions
        )
        memory = model.program(Joint.project)(params, encoded)
    decoder = CachedDecoder(model, memory, plan.max_length, settings, params, counts)
    result = loop.generate(
        decoder,
        prompt,
        settings,
        plan=plan,
        **search,
    )
    return result, encoded
