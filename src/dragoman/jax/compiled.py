"""A whole search as one compiled program, which runs until all sequences have ended or the cache is full.

Shapes are rounded up (`buckets.py`), so that few programs serve a varied workload. Not here: the search itself
(`dragoman.generation`), and what cannot be compiled (`steps.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from dragoman.generation.arrays import has_possible, ops_of
from dragoman.generation.beams import BeamState
from dragoman.generation.chain import build_filters, build_processors
from dragoman.generation.noise import fold, sample_keys, utterance_keys
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.generation.request import Request, Speech
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import RowState, advance_rows, begin_rows
from dragoman.generation.run import Run, raise_if_failed
from dragoman.generation.sampling import draw
from dragoman.generation.stopping import stops_of
from dragoman.generation.strategies import beam_search
from dragoman.generation.strategies.contrastive import choose, directions
from dragoman.jax.arrays import is_traced
from dragoman.jax.buckets import fill_rows, pad_to_bucket, rounded
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.layers import widened
from dragoman.jax.pretrained import PretrainedModule

_FIRST_CAPACITY = 64  # tokens; doubled when the cache is full


@dataclass(frozen=True)
class Recipe:
    """The constants of a program; equal recipes share it.

    Attributes:
        plan: Lengths and ids.
        options: The options as a string, to compare.
        settings: The options.
    """

    plan: Plan
    options: str
    settings: GenerationConfig = field(compare=False)


class Contrast(NamedTuple):
    """The state of contrastive search: logits of the next token, and the directions of the states so far."""

    logits: Float[Array, "batch vocab"]
    before: Float[Array, "batch max_length width"]


class Search(NamedTuple):
    """A search between two programs."""

    states: RowState | list[BeamState]
    cache: Cache
    done: Array
    contrast: Contrast | None = None


def _recipe(request: Request) -> Recipe:
    settings = request.settings
    return Recipe(request.plan, repr(sorted(settings.to_dict().items())), settings)


def search(
    model: PretrainedModule,
    request: Request,
    seed: int | Sequence[int] | Array,
    params: Mapping[str, Any] | None,
    *,
    rehearse: bool = False,
) -> GenerationResult:
    """Search in compiled programs: one for the encoder, one for the search, and one for each time the cache grows.

    The arguments are those of `dragoman.jax.generate.search`.
    """
    recipe, prompt = _recipe(request), request.prompt
    batch, plan = prompt.shape[0], recipe.plan
    params = model.tree if params is None else params  # looked up once for all programs
    # Inside `jit` and `pmap` no value can be read: one program of the given shapes takes as many steps as it may.
    traced = is_traced(request.speech, params, seed)
    like = jnp.asarray(prompt) if traced else prompt
    keys = utterance_keys(ops_of(like), seed, like) if recipe.settings.do_sample else None
    rows = batch if traced else rounded(batch, 2)
    memory = memory_of(model, request.speech, rows, params)
    prompt = fill_rows(prompt.astype(np.int32), rows)
    keys, mask = (None if x is None else fill_rows(x, rows) for x in (keys, request.prompt_mask))
    # a rehearsal compiles every program, but none of them takes a step
    limit = np.int32(0 if rehearse else plan.max_length)
    static = ("recipe", "capacity")
    capacity = plan.max_length if traced else min(_FIRST_CAPACITY, plan.max_length)
    first = model.program(_begin_and_search, static)
    found = first(params, memory, prompt, mask, keys, limit, recipe=recipe, capacity=capacity)
    while capacity < plan.max_length and (rehearse or not bool(found.done)):
        capacity = min(2 * capacity, plan.max_length)
        found = model.program(_search_on, static)(params, memory, found, keys, limit, recipe=recipe, capacity=capacity)
    return _result(recipe, found.states if traced else jax.device_get(found.states), batch, traced=traced)


def memory_of(model: PretrainedModule, speech: Speech, rows: int, params: Mapping[str, Any]) -> Memory:
    """Return keys and values of the encoder states for `rows` utterances; the extra ones are copies of the first."""
    inputs, lengths, encoded = speech
    if encoded is None:
        traced = is_traced(inputs, lengths)
        padded = (inputs, lengths) if traced else pad_to_bucket(model.module.encoder, inputs, lengths, rows)
        memory: Memory = model.program(Joint.encode_and_project)(params, *padded)
    else:
        encoded = jax.tree.map(lambda x: fill_rows(x if is_traced(x) else np.asarray(x), rows), encoded)
        memory = model.program(Joint.project)(params, encoded)
    return memory


def _begin_and_search(
    joint: Joint,
    memory: Memory,
    prompt: Array,
    prompt_mask: Array | None,
    keys: Array | None,
    limit: Array,
    recipe: Recipe,
    capacity: int,
) -> Search:
    """Read the prompt, its last token only if the first step does not, and search until the cache is full."""
    plan, (batch, tokens) = recipe.plan, prompt.shape
    cache = replace(joint.decoder.begin(memory, batch, max(capacity, tokens)), text_mask=prompt_mask)
    run = _run(recipe, prompt, joint.decoder.spec.vocab_size, keys)
    if recipe.settings.penalty_alpha:
        return _search(joint, run, memory, _begin_contrast(joint, run, memory, prompt, cache), limit)
    if tokens > 1:
        _, read = joint.decoder.decode(prompt[:, :-1], memory, cache)
        assert read is not None
        cache = read
    cache = cache.expanded(plan.num_beams * plan.num_samples)
    states: RowState | list[BeamState]
    if plan.num_beams > 1:
        states = [_traced(state) for state in beam_search.begin(run, prompt)[2]]
    else:
        states = _traced(begin_rows(run.ops, plan, jnp.repeat(prompt, plan.num_samples, axis=0)))
    return _search(joint, run, memory, Search(states, cache, jnp.zeros((), bool)), limit)


def _search_on(
    joint: Joint, memory: Memory, found: Search, keys: Array | None, limit: Array, recipe: Recipe, capacity: int
) -> Search:
    """Continue a search with a larger cache."""
    run = _run(recipe, found.cache.keys[0], joint.decoder.spec.vocab_size, keys)
    cache = found.cache.grown(capacity + found.cache.prefix_length)
    return _search(joint, run, memory, found._replace(cache=cache), limit)


def _search(joint: Joint, run: Run, memory: Memory, found: Search, limit: Array) -> Search:
    def goes_on(found: Search) -> Any:
        first = found.states[0] if isinstance(found.states, list) else found.states
        return ~found.done & (found.cache.length < found.cache.capacity) & (first.length < limit)

    step = _beam_step if run.plan.num_beams > 1 else _row_step
    if found.contrast is not None:
        step = _contrastive_step
    return lax.while_loop(goes_on, lambda found: step(joint, run, memory, found), found)


def _row_step(joint: Joint, run: Run, memory: Memory, found: Search) -> Search:
    """Greedy search and sampling: one more token for each sequence."""
    state, ops = found.states, run.ops
    assert isinstance(state, RowState)
    logits, cache = _next(joint, run, state.tokens, state.length, memory, found.cache)
    scores = run.process(state.tokens, state.length, logits)
    if run.keys is None:
        chosen = jnp.argmax(scores, axis=-1)
    else:
        keys = sample_keys(ops, run.keys, run.plan.num_samples)
        chosen = draw(ops, fold(ops, keys, state.length), scores)
    state = advance_rows(ops, run.plan, state, chosen, has_possible(ops, scores))
    return Search(state, cache, _over(run, state))


def _over(run: Run, state: RowState) -> Array:
    """Whether all sequences have ended, or must."""
    over: Array = state.length >= run.plan.max_length
    return over | state.ended.all() if run.plan.eos else over


def _begin_contrast(joint: Joint, run: Run, memory: Memory, prompt: Array, cache: Cache) -> Search:
    """Start contrastive search: between steps the decoder has read every token; each candidate has a row."""
    out, read = joint.decoder.decode(prompt, memory, cache)
    assert read is not None
    state = _traced(begin_rows(run.ops, run.plan, prompt))
    vectors = directions(run.ops, widened(out.states))
    # positions not generated yet repeat the first direction, which changes no maximum similarity
    later = jnp.repeat(vectors[:, :1], run.plan.max_length - prompt.shape[1], axis=1)
    logits = joint.decoder.logits(out.states[:, -1]).astype(jnp.float32)
    contrast = Contrast(logits, jnp.concatenate([vectors, later], axis=1))
    return Search(state, read.expanded(min(run.options.top_k, logits.shape[-1])), jnp.zeros((), bool), contrast)


def _contrastive_step(joint: Joint, run: Run, memory: Memory, found: Search) -> Search:
    """Contrastive search: read the most probable tokens of each sequence and keep the least repetitive one."""
    state, contrast, ops, alpha = found.states, found.contrast, run.ops, run.options.penalty_alpha
    assert isinstance(state, RowState)
    assert contrast is not None
    assert alpha is not None
    batch = state.tokens.shape[0]
    count = found.cache.rows // batch
    scores = run.process(state.tokens, state.length, contrast.logits)
    log_probs, tokens = ops.top_k(ops.log_softmax(scores), count)
    out, read = joint.decoder.decode(tokens.reshape(-1, 1), memory, found.cache)
    assert read is not None
    states = out.states[:, -1].reshape(batch, count, -1)
    vectors = directions(ops, widened(states))
    choice = choose(ops, alpha, log_probs, vectors, contrast.before)
    new = ops.gather(tokens, choice)[:, 0]
    state = advance_rows(ops, run.plan, state, new, has_possible(ops, scores))
    chosen = ops.gather(vectors, choice[:, :, None])
    before = lax.dynamic_update_slice_in_dim(contrast.before, chosen, state.length - 1, axis=1)
    logits = joint.decoder.logits(ops.gather(states, choice[:, :, None])[:, 0]).astype(jnp.float32)
    rows = choice[:, 0] + count * jnp.arange(batch)
    return Search(state, read.selected(jnp.repeat(rows, count)), _over(run, state), Contrast(logits, before))


def _beam_step(joint: Joint, run: Run, memory: Memory, found: Search) -> Search:
    """Beam search and beam sampling: one more token for each beam."""
    states = found.states
    assert isinstance(states, list)
    batch = states[0].tokens.shape[0]
    tokens = jnp.concatenate([state.tokens for state in states], axis=1)
    rows = tokens.reshape(-1, tokens.shape[2])
    logits, cache = _next(joint, run, rows, states[0].length, memory, found.cache)
    group, rules, _ = beam_search.begin(run, jnp.zeros((batch, run.plan.prompt_length), tokens.dtype))
    states, parents, _, done = beam_search.advance(group, rules, states, run.ops.log_softmax(logits))
    return Search(states, cache.selected(parents.reshape(-1)), done)


def _next(joint: Joint, run: Run, tokens: Array, length: Array, memory: Memory, cache: Cache) -> tuple[Array, Cache]:
    """Read the last of `length` tokens of each sequence, and score the next one."""
    last = lax.dynamic_slice_in_dim(tokens, length - 1, 1, axis=1)
    embed, given, positions = joint.decoder.spec.embed, run.plan.prompt_length, None
    pad = embed.pad_token_id
    if embed.positions is not None and embed.positions.padding_has_own_position and pad is not None and given > 1:
        # the first token read here is the last of the prompt, whose padding takes no positions
        inside = jnp.count_nonzero(tokens[:, :given] - pad, axis=1, keepdims=True) - 1
        positions = jnp.where(length == given, inside, length - 1)
    out, read = joint.decoder.decode(last, memory, cache, positions=positions)
    assert read is not None
    return joint.decoder.logits(out.states[:, -1]).astype(jnp.float32), read


def _run(recipe: Recipe, like: Any, vocab: int, keys: Any) -> Run:
    """Return the search that a recipe describes, over the library of the array `like`."""
    ops, plan, options = ops_of(like), recipe.plan, recipe.settings
    logits = ops.xp.zeros((1, vocab), dtype=ops.xp.float32)
    chain = build_processors(ops, options, plan, logits) + build_filters(ops, options, plan)
    return Run(ops, plan, options, chain, keys, stops_of(options, plan.prompt_length, (), None), None)


def _traced(state: Any) -> Any:
    """Return a state whose length is an array, as a traced loop needs it."""
    return state._replace(length=jnp.asarray(state.length, jnp.int32))


def _result(recipe: Recipe, states: Any, batch: int, *, traced: bool) -> GenerationResult:
    """Return the sequences of the first `batch` utterances; `traced` ones keep the maximum length."""
    if isinstance(states, list):
        states = [
            type(state)(*(x if x is None or x.ndim == 0 else x[:batch] for x in state))._replace(
                length=recipe.plan.max_length if traced else int(state.length)
            )
            for state in states
        ]
        stops = stops_of(recipe.settings, recipe.plan.prompt_length, (), None)
        run = Run(ops_of(states[0].scores), recipe.plan, recipe.settings, [], None, stops, None)
        return beam_search.best(run, states, cropped=not traced)
    rows = batch * recipe.plan.num_samples
    if traced:
        return GenerationResult(sequences=states.tokens, ended=states.ended)
    raise_if_failed(states.failed[:rows])
    return GenerationResult(sequences=states.tokens[:rows, : int(states.length)], ended=states.ended[:rows])
