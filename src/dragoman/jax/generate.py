"""The JAX driver of the search: what a caller asks for runs as compiled programs, or step by step.

Options that look at values (a caller's own processors, the clock) or ask for records of every step run step by step,
with the search in NumPy. Not here: the search itself (`dragoman.generation`), which knows no framework.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from dragoman.api.checks import one_audio
from dragoman.errors import GenerationError
from dragoman.generation import loop
from dragoman.generation.forced import ForcedTokens
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan, plan_of
from dragoman.generation.result import GenerationResult
from dragoman.generation.scorers.fusion import Scorer, given_scorers
from dragoman.generation.settings import prompt_mask_of, prompt_of, settings_of, warn_if_cut_off
from dragoman.jax.arrays import ARRAYS
from dragoman.jax.buckets import pad_to_bucket
from dragoman.jax.compiled import memory_of, recipe_of, search
from dragoman.jax.net.joint import Joint
from dragoman.jax.steps import CachedDecoder
from dragoman.model.arguments import encoder_inputs

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["generate", "warm_up"]


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
    scorers: Sequence[Scorer] = (),
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
        scorers: Extra scores added to the decoder's log-probabilities at each step (shallow fusion): hot words,
            language models.
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
    scorers = given_scorers(scorers, options)
    settings = settings_of(model.config, model.generation_config, generation_config, options)
    settings.validate()
    audio = one_audio(inputs, input_values, input_features)
    heard = encoder_inputs(ARRAYS, model.encoder, audio, attention_mask, encoder_outputs)
    batch = (heard[2].last_hidden_state if heard[2] is not None else heard[0]).shape[0]
    prompt, later = prompt_of(settings, batch, decoder_input_ids, model.decoder.spec.vocab_size)
    counts = prompt_mask_of(decoder_attention_mask, decoder_input_ids, prompt)
    plan = plan_of(settings, prompt.shape[1], _room(model, heard))
    if seed is not None and prng_key is not None:
        raise GenerationError("`seed` and `prng_key` both say how to sample; pass one of them.")
    if seed is None:
        seed = random.getrandbits(31) if prng_key is None else _seed_of(prng_key)
    of_values = (logits_processor, scorers, stopping_criteria)
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
            scorers=scorers,
            token_log_probs=token_log_probs,
        )
    else:
        result, encoded = search(model, heard, recipe_of(plan, settings, later), prompt, counts, params, seed), None
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
    search(model, heard, recipe_of(plan, settings, later), prompt, None, params, 0, rehearse=True)


def _drafting(
    model: "FlaxSpeechEncoderDecoderModel", audio: Any, attention_mask: Any, plan: Plan, counts: Any
) -> CachedDecoder:
    """Return the decoder of a smaller model, looking at what its own encoder hears."""
    if model.backend != "jax":
        raise GenerationError("`assistant_model` must be a model in JAX too: a FlaxSpeechEncoderDecoderModel.")
    heard = encoder_inputs(ARRAYS, model.encoder, audio, attention_mask, None)
    memory = memory_of(model, heard, heard[0].shape[0], model.params)
    return CachedDecoder(model, memory, plan.max_length, GenerationConfig(), None, counts)


def _room(model: "FlaxSpeechEncoderDecoderModel", heard: tuple[Any, Any, Any]) -> int:
    """Return how many tokens a text may have behind this speech."""
    inputs, lengths, encoded = heard
    if encoded is not None:
        return model.max_text_length(encoded.last_hidden_state.shape[1])
    padded, _ = pad_to_bucket(model, inputs[:1], None if lengths is None else lengths[:1], 1)
    return model.max_text_length(
        int(model.encoder.spec.frame_lengths(padded.shape[model.encoder.spec.frontend.time_axis]))
    )


def _needs_steps(settings: GenerationConfig) -> bool:
    """Return whether something asked for cannot be traced, or is wanted of every step."""
    records = (
        settings.output_scores or settings.output_logits or settings.output_attentions or settings.output_hidden_states
    )
    looks = settings.stop_strings is not None or settings.max_time is not None
    return looks or settings.force_words_ids is not None or (settings.return_dict_in_generate and records)


def _seed_of(key: PRNGKeyArray) -> int:
    words = np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
    return int.from_bytes(words.astype(np.uint32).tobytes()[-8:], "little")


def _stepwise(
    model: "FlaxSpeechEncoderDecoderModel",
    heard: tuple[Any, Any, Any],
    settings: GenerationConfig,
    prompt: np.ndarray[Any, Any],
    counts: np.ndarray[Any, Any] | None,
    plan: Plan,
    params: Any,
    **ways: Any,
) -> tuple[GenerationResult, Any]:
    """Search in NumPy, one compiled step of the decoder after the other."""
    encoded = None
    if not (settings.output_attentions or settings.output_hidden_states):
        memory = memory_of(model, heard, prompt.shape[0], model.params if params is None else params)
    else:
        encoded = heard[2] or model.program(Joint.encode)(
            params, *heard[:2], all_states=settings.output_hidden_states, weights=settings.output_attentions
        )
        memory = model.program(Joint.project)(params, encoded)
    decoder = CachedDecoder(model, memory, plan.max_length, settings, params, counts)
    return loop.generate(decoder, prompt, settings, plan=plan, **ways), encoded
