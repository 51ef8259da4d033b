"""The search in JAX: as compiled programs, or step by step.

Options that read values (a caller's own processors, the clock) and records of every step need the step-by-step search,
which runs in NumPy. Not here: the search itself (`dragoman.generation`), which imports no framework.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from dragoman.api.outputs import EncoderOutput
from dragoman.errors import GenerationError
from dragoman.generation import loop
from dragoman.generation.options import GenerationConfig
from dragoman.generation.request import Request
from dragoman.generation.result import GenerationResult
from dragoman.jax import compiled
from dragoman.jax.arrays import is_traced
from dragoman.jax.net.joint import Joint
from dragoman.jax.pretrained import PretrainedModule
from dragoman.jax.steps import CachedDecoder


def search(
    model: PretrainedModule,
    request: Request,
    seed: int | Sequence[int] | Array,
    params: Mapping[str, Any] | None = None,
    *,
    rehearse: bool = False,
) -> tuple[GenerationResult, EncoderOutput | None]:
    """Encode the speech of a request and search; return the encoder's output too, if its records were asked for.

    Args:
        model: The model.
        request: The request.
        seed: For sampling; one for the batch or one per utterance.
        params: Used instead of the model's own.
        rehearse: Compile every program that sequences of any length need, and take no step.

    Raises:
        GenerationError: If `rehearse` is set, but the request cannot be compiled.
    """
    if not (request.takes_part or _needs_steps(request.settings)):
        return compiled.search(model, request, seed, params, rehearse=rehearse), None
    if is_traced(request.speech, model.tree if params is None else params, seed):
        raise GenerationError(
            "Inside `jax.jit` and `jax.pmap` no value can be read, but these options need values between steps: the "
            "caller's own processors, criteria, scorers or streamer, a draft model, `stop_strings`, `max_time`, "
            "`force_words_ids`, and the scores and states of each step. Leave them out, or call `generate` outside."
        )
    if rehearse:
        raise GenerationError(
            "`warm_up` compiles whole searches, but with these options the decoder runs step by step. "
            "Its step is compiled when `generate` first takes it."
        )
    assert not isinstance(seed, Array)
    return _search_by_steps(model, request, seed, model.tree if params is None else params)


def _needs_steps(settings: GenerationConfig) -> bool:
    """Whether an option cannot be traced, or asks for records of every step."""
    records = (
        settings.output_scores or settings.output_logits or settings.output_attentions or settings.output_hidden_states
    )
    looks = settings.stop_strings is not None or settings.max_time is not None or settings.ctc_weight > 0
    return looks or settings.force_words_ids is not None or (settings.return_dict_in_generate and records)


def seed_of(seed: int | Sequence[int] | None, key: PRNGKeyArray | None) -> int | Sequence[int] | Array:
    """Return the seed of a call, from either argument; by default a random one. The words of a traced key are an array.

    Raises:
        GenerationError: If both are given.
    """
    if seed is not None and key is not None:
        raise GenerationError("`seed` and `prng_key` exclude each other; pass one of them.")
    if key is None:
        return random.getrandbits(31) if seed is None else seed
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    if is_traced(data):
        return jax.lax.bitcast_convert_type(data.reshape(-1)[-2:].astype(jnp.uint32), jnp.int32)
    words = np.asarray(data)
    return int.from_bytes(words.astype(np.uint32).tobytes()[-8:], "little")


def _search_by_steps(
    model: PretrainedModule, request: Request, seed: int | Sequence[int], params: Mapping[str, Any]
) -> tuple[GenerationResult, EncoderOutput | None]:
    """Search in NumPy, one compiled step of the decoder after the other."""
    settings, (inputs, lengths, encoded) = request.settings, request.speech
    found = None
    if settings.output_attentions or settings.output_hidden_states or settings.ctc_weight:
        found = encoded or model.program(Joint.encode)(
            params, inputs, lengths, all_states=settings.output_hidden_states, weights=settings.output_attentions
        )
        memory = model.program(Joint.project)(params, found)
    else:
        memory = compiled.memory_of(model, request.speech, request.prompt.shape[0], params)
    decoder = CachedDecoder(model, memory, request.plan.max_length, settings, params, request.prompt_mask)
    draft = None if request.draft is None else _draft_decoder(*request.draft, request)
    options = request.loop_options(model, found)
    return loop.generate(decoder, request.prompt, settings, seed=seed, draft=draft, **options), found


def _draft_decoder(model: PretrainedModule, speech: Any, request: Request) -> CachedDecoder:
    """Return the decoder of the smaller model that drafts."""
    memory = compiled.memory_of(model, speech, speech[0].shape[0], model.tree)
    capacity, mask = request.plan.max_length, request.prompt_mask
    return CachedDecoder(model, memory, capacity, GenerationConfig(), None, mask)
